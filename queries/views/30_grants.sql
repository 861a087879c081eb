/*
What users had granted at the end of the period, one row a user × resource × scope. Without an inventory it is derived:
a consent grants its scopes until a later revocation (one that names no scopes takes them all) or its expiry; for a user
with credential issues but no consent in the log, what was issued to him was granted some time before (`basis = 'issue'`).
*/
CREATE VIEW grants AS
WITH consents AS (
    SELECT user_id, resource_id, unnest(granted_scopes) AS scope, occurred_at, grant_expires_at
    FROM events, period
    WHERE kind = 'consent' AND outcome <> 'failure' AND occurred_at < period.ends_at
),

revocations AS (
    SELECT user_id, resource_id, granted_scopes, occurred_at
    FROM events, period
    WHERE kind = 'revocation' AND outcome <> 'failure' AND occurred_at < period.ends_at
),

revoked AS (
    SELECT c.user_id, c.resource_id, c.scope, max(r.occurred_at) AS revoked_at
    FROM (SELECT DISTINCT user_id, resource_id, scope FROM consents) AS c
    INNER JOIN revocations AS r
        ON c.user_id = r.user_id AND c.resource_id = r.resource_id
        AND (r.granted_scopes IS NULL OR list_contains(r.granted_scopes, c.scope))
    GROUP BY c.user_id, c.resource_id, c.scope
),

standing AS (
    SELECT
        c.user_id, c.resource_id, c.scope, min(c.occurred_at) AS granted_at,
        -- The newest consent says how long it lasts; one that says nothing lasts until revoked.
        arg_max(coalesce(c.grant_expires_at, TIMESTAMPTZ '9999-01-01 00:00:00+00'), c.occurred_at) AS expires_at
    FROM consents AS c
    LEFT JOIN revoked AS r ON c.user_id = r.user_id AND c.resource_id = r.resource_id AND c.scope = r.scope
    WHERE r.revoked_at IS NULL OR c.occurred_at > r.revoked_at
    GROUP BY c.user_id, c.resource_id, c.scope
),

issued_lists AS (
    SELECT user_id, resource_id, issued_scopes, min(occurred_at) AS first_at
    FROM credential_issues, period
    WHERE is_issued AND user_id IS NOT NULL AND issued_scopes IS NOT NULL AND occurred_at < period.ends_at
    GROUP BY user_id, resource_id, issued_scopes
),

by_issue AS (
    SELECT user_id, resource_id, scope, min(first_at) AS granted_at
    FROM (SELECT user_id, resource_id, unnest(issued_scopes) AS scope, first_at FROM issued_lists)
    WHERE (user_id, resource_id) NOT IN (SELECT (user_id, resource_id) FROM consents)
        AND (user_id, resource_id) NOT IN (SELECT (user_id, resource_id) FROM revocations)
    GROUP BY user_id, resource_id, scope
)

SELECT user_id, resource_id, scope, granted_at, nullif(expires_at, TIMESTAMPTZ '9999-01-01 00:00:00+00') AS expires_at, 'consent' AS basis
FROM standing, period
WHERE standing.expires_at > period.ends_at
UNION ALL
SELECT user_id, resource_id, scope, granted_at, NULL AS expires_at, 'issue' AS basis
FROM by_issue;

COMMENT ON VIEW grants IS 'Standing grants at the end of the period, one row a user, resource and scope, derived from events.';
