/*
What users had granted at the end of the period, one row a user × resource × scope. Without an inventory it is derived:
a consent grants its scopes until a later revocation (one that names no scopes takes them all) or its expiry; for a user
with credential issues but no consent in the log, what was issued was granted some time before (`basis = 'issue'`), and
granted again where it was issued after a revocation.
*/
CREATE VIEW grants AS
WITH consents AS (
    SELECT
        user_id, resource_id, unnest(granted_scopes) AS scope, occurred_at,
        -- A consent that says nothing lasts until revoked.
        coalesce(grant_expires_at, TIMESTAMPTZ '9999-01-01 00:00:00+00') AS expires_at
    FROM events, period
    WHERE kind = 'consent' AND outcome <> 'failure' AND occurred_at < period.ends_at
),

-- Distinct lists first, then their scopes: lists are what costs.
issued_lists AS (
    SELECT user_id, resource_id, issued_scopes, min(occurred_at) AS first_at, max(occurred_at) AS last_at
    FROM credential_issues, period
    WHERE user_id IS NOT NULL AND issued_scopes IS NOT NULL AND occurred_at < period.ends_at
    GROUP BY user_id, resource_id, issued_scopes
),

issued AS (
    SELECT user_id, resource_id, scope, min(first_at) AS first_at, max(last_at) AS last_at
    FROM (SELECT user_id, resource_id, unnest(issued_scopes) AS scope, first_at, last_at FROM issued_lists)
    GROUP BY user_id, resource_id, scope
),

revocations AS (
    SELECT user_id, resource_id, granted_scopes, occurred_at
    FROM events, period
    WHERE kind = 'revocation' AND outcome <> 'failure' AND occurred_at < period.ends_at
),

revoked AS (
    SELECT known.user_id, known.resource_id, known.scope, max(r.occurred_at) AS revoked_at
    FROM (SELECT user_id, resource_id, scope FROM consents UNION SELECT user_id, resource_id, scope FROM issued) AS known
    INNER JOIN revocations AS r
        ON known.user_id = r.user_id AND known.resource_id IS NOT DISTINCT FROM r.resource_id
        AND (coalesce(len(r.granted_scopes), 0) = 0 OR list_contains(r.granted_scopes, known.scope))
    GROUP BY known.user_id, known.resource_id, known.scope
),

not_revoked AS (
    SELECT
        c.user_id, c.resource_id, c.scope, c.occurred_at, c.expires_at,
        lag(c.expires_at) OVER (PARTITION BY c.user_id, c.resource_id, c.scope ORDER BY c.occurred_at, c.expires_at) AS last_expired_at
    FROM consents AS c
    LEFT JOIN revoked AS r ON c.user_id = r.user_id AND c.resource_id IS NOT DISTINCT FROM r.resource_id AND c.scope = r.scope
    WHERE r.revoked_at IS NULL OR c.occurred_at > r.revoked_at
),

standing AS (
    SELECT
        user_id, resource_id, scope,
        -- A consent renews the one before, and begins anew where that had lapsed; the newest says how long it lasts.
        max(occurred_at) FILTER (last_expired_at IS NULL OR last_expired_at <= occurred_at) AS granted_at,
        arg_max(expires_at, row(occurred_at, expires_at)) AS expires_at
    FROM not_revoked
    GROUP BY user_id, resource_id, scope
)

SELECT user_id, resource_id, scope, granted_at, nullif(expires_at, TIMESTAMPTZ '9999-01-01 00:00:00+00') AS expires_at, 'consent' AS basis
FROM standing, period
WHERE standing.expires_at > period.ends_at
UNION ALL
SELECT
    i.user_id, i.resource_id, i.scope,
    -- Of what was revoked in between, only the newest issue is known to come after.
    CASE WHEN r.revoked_at IS NULL OR i.first_at > r.revoked_at THEN i.first_at ELSE i.last_at END AS granted_at,
    NULL AS expires_at, 'issue' AS basis
FROM issued AS i
LEFT JOIN revoked AS r ON i.user_id = r.user_id AND i.resource_id IS NOT DISTINCT FROM r.resource_id AND i.scope = r.scope
LEFT JOIN (SELECT DISTINCT user_id, resource_id FROM consents) AS c
    ON i.user_id = c.user_id AND i.resource_id IS NOT DISTINCT FROM c.resource_id
WHERE c.user_id IS NULL AND (r.revoked_at IS NULL OR i.last_at > r.revoked_at);

COMMENT ON VIEW grants IS 'Standing grants at the end of the period, one row a user, resource and scope, derived from events.';
