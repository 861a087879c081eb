/*
title       = "Every read-write scope that a user has granted is used for writing"
severity    = "high"
needs       = ["grants", "credential_issues", "log_of_30_days"]
controls    = ["soc2:CC6.3", "iso27001:A.5.18", "iso27001:A.8.2", "nist80053:AC-6", "nist80053:AC-6(7)", "nistcsf:PR.AA-05", "cis:3.3", "cis:6.8", "pcidss:7.2.5.1", "hipaa:164.308(a)(4)(ii)(C)", "owaspnhi:NHI5:2025"]
risk        = "A standing permission to write that nobody needs is what an attacker or an erring agent will use."
remediation = "Ask the owner; then revoke the user's grant at the resource in the Keycard Console and let him consent again to the smaller set, and take the scope from the applications that ask for it."
*/
SET VARIABLE min_active_days = 10;

WITH held AS (
    -- Only grants that existed for the whole period can be called unused in it.
    SELECT g.user_id, g.resource_id, g.scope, g.granted_at, g.basis, s.family, s.sensitivity, p.starts_at, p.ends_at
    FROM grants AS g
    CROSS JOIN period AS p
    INNER JOIN scopes AS s ON g.scope = s.scope
    WHERE s.access = 'read-write' AND g.granted_at <= p.starts_at
        -- A family that no known operation writes to cannot be judged from calls.
        AND s.family IN (SELECT split_part(scope, ':', 1) FROM (SELECT unnest(scopes) AS scope FROM operations) WHERE scope LIKE '%:read-write')
),

uses AS (
    SELECT user_id, resource_id, family, max(occurred_day) AS last_day, count(DISTINCT occurred_day) AS day_count,
        count(DISTINCT occurred_day) FILTER (occurred_day >= CAST(starts_at AT TIME ZONE 'UTC' AS DATE)) AS day_count_in_period
    FROM access_use, period
    WHERE access = 'write' AND occurred_day < CAST(ends_at AT TIME ZONE 'UTC' AS DATE)
    GROUP BY user_id, resource_id, family
),

activity AS (
    SELECT user_id, resource_id, sum(call_count) AS call_count, count(DISTINCT occurred_day) AS active_day_count,
        sum(unmatched_count) AS unmatched_count
    FROM daily_operation_use, period
    WHERE occurred_day >= CAST(starts_at AT TIME ZONE 'UTC' AS DATE) AND occurred_day < CAST(ends_at AT TIME ZONE 'UTC' AS DATE)
    GROUP BY user_id, resource_id
),

issue_lists AS (
    SELECT user_id, resource_id, requested_scopes, count(*) AS issue_count
    FROM credential_issues, period
    WHERE occurred_at >= starts_at AND occurred_at < ends_at
    GROUP BY user_id, resource_id, requested_scopes
),

requests AS (
    SELECT user_id, resource_id, list_distinct(flatten(list(requested_scopes) FILTER (requested_scopes IS NOT NULL))) AS requested_scopes,
        sum(issue_count) AS issue_count, sum(issue_count) FILTER (requested_scopes IS NULL) AS unnamed_issue_count
    FROM issue_lists
    GROUP BY user_id, resource_id
),

gaps AS (
    SELECT user_id, resource_id, sum(expected_call_count) AS expected_call_count
    FROM calls_expected_in_gaps
    GROUP BY user_id, resource_id
),

log AS (
    SELECT
        (SELECT row_count FROM evidence WHERE need = 'api_calls') > 0 AS has_calls,
        floor(epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / 86400.0) AS day_count
    FROM period
),

judged AS (
    SELECT
        h.*, u.last_day, u.day_count, l.has_calls, l.day_count AS log_day_count,
        coalesce(a.call_count, 0) AS call_count, coalesce(a.active_day_count, 0) AS active_day_count,
        coalesce(a.unmatched_count, 0) AS unmatched_count, coalesce(r.issue_count, 0) AS issue_count,
        coalesce(r.unnamed_issue_count, 0) AS unnamed_issue_count, coalesce(g.expected_call_count, 0) AS expected_in_gaps
    FROM held AS h
    CROSS JOIN log AS l
    LEFT JOIN uses AS u ON h.user_id = u.user_id AND h.resource_id = u.resource_id AND h.family = u.family
    LEFT JOIN activity AS a ON h.user_id = a.user_id AND h.resource_id = a.resource_id
    LEFT JOIN requests AS r ON h.user_id = r.user_id AND h.resource_id = r.resource_id
    LEFT JOIN gaps AS g ON h.user_id = g.user_id AND h.resource_id = g.resource_id
    WHERE CASE WHEN l.has_calls THEN coalesce(u.day_count_in_period, 0) = 0
               ELSE NOT list_contains(coalesce(r.requested_scopes, CAST([] AS VARCHAR[])), h.scope) END
),

grouped AS (
    SELECT
        user_id, resource_id, has_calls, log_day_count, call_count, active_day_count, unmatched_count, issue_count,
        unnamed_issue_count, expected_in_gaps, starts_at, ends_at,
        list_sort(list(scope)) AS scopes, bool_or(sensitivity = 'critical') AS is_critical, min(granted_at) AS granted_at,
        max(last_day) AS last_write_day, max(day_count) AS earlier_write_days, max(basis) AS basis
    FROM judged
    GROUP BY ALL
)

SELECT
    user_id || ' × ' || resource_id AS entity,
    user_id || ' has granted ' || array_to_string(scopes, ', ') || ' since ' || strftime(granted_at AT TIME ZONE 'UTC', '%Y-%m-%d')
    || CASE WHEN NOT has_calls THEN ' and no application asked for it on his behalf in ' || issue_count || ' credential issues (by request: the log shows no calls)'
            WHEN call_count = 0 THEN ' and made no call at all in ' || CAST(log_day_count AS BIGINT) || ' days'
            ELSE ' and never wrote with it: ' || call_count || ' calls on ' || active_day_count || ' days in ' || CAST(log_day_count AS BIGINT) || ' days' END AS reason,
    CASE WHEN NOT has_calls THEN 'low' WHEN is_critical THEN 'high' ELSE 'medium' END AS severity,
    CASE
        WHEN NOT has_calls AND unnamed_issue_count > 0
            THEN unnamed_issue_count || ' of his credential issues name no scopes, and may have used any'
        WHEN NOT has_calls THEN NULL
        WHEN unmatched_count > 0 THEN unmatched_count || ' of his calls match no known operation and may have used it'
        WHEN expected_in_gaps >= 1
            THEN 'the log has gaps in which about ' || CAST(round(expected_in_gaps) AS BIGINT) || ' of his calls were to be expected'
        WHEN last_write_day IS NOT NULL
            THEN 'it was last used for writing on ' || last_write_day || ', before the period (' || earlier_write_days || ' days): rare use, ask the owner'
        WHEN call_count = 0 AND issue_count > 0
            THEN issue_count || ' credentials were issued for him and no call of his is in the log: it may not show all calls'
        WHEN call_count > 0 AND active_day_count < parameter('min_active_days')
            THEN 'he was active on ' || active_day_count || ' days; ' || parameter('min_active_days') || ' are needed'
    END AS inconclusive_because,
    granted_at AS first_at,
    (SELECT max(occurred_at) FROM events WHERE events.user_id = grouped.user_id AND events.resource_id = grouped.resource_id
        AND kind IN ('consent', 'credential_issue') AND occurred_at < grouped.ends_at) AS last_at,
    (SELECT count(*) FROM events WHERE events.user_id = grouped.user_id AND events.resource_id = grouped.resource_id
        AND (kind = 'consent' OR (kind IN ('credential_issue', 'api_call') AND occurred_at >= grouped.starts_at)) AND occurred_at < grouped.ends_at) AS event_count,
    (SELECT arg_min(event_uid, row(occurred_at, event_uid), 5) FROM events WHERE events.user_id = grouped.user_id AND events.resource_id = grouped.resource_id
        AND (kind = 'consent' OR (kind IN ('credential_issue', 'api_call') AND occurred_at >= grouped.starts_at)) AND occurred_at < grouped.ends_at) AS event_uids,
    'SELECT * FROM events WHERE user_id = ' || sql_literal(user_id) || ' AND resource_id = ' || sql_literal(resource_id)
    || ' AND (kind = ''consent'' OR (kind IN (''credential_issue'', ''api_call'') AND occurred_at >= ' || sql_instant(starts_at)
    || ')) AND occurred_at < ' || sql_instant(ends_at) || ' ORDER BY occurred_at, event_uid' AS events_sql,
    user_id,
    resource_id,
    scopes AS unused_scopes,
    CASE WHEN has_calls THEN 'by use' ELSE 'by request' END AS evidence,
    CASE basis WHEN 'consent' THEN 'derived from consent events' ELSE 'derived from credential issues' END AS grant_known_from,
    active_day_count,
    call_count,
    issue_count,
    round(expected_in_gaps, 2) AS calls_expected_in_gaps
FROM grouped
ORDER BY entity
