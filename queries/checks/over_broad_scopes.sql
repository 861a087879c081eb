/*
title       = "Applications are issued the scopes that they use, and no more"
severity    = "high"
needs       = ["credential_issues", "log_of_30_days"]
controls    = ["soc2:CC6.1", "soc2:CC6.3", "iso27001:A.5.15", "iso27001:A.5.18", "iso27001:A.8.3", "nist80053:AC-6", "nist80053:AC-6(7)", "nistcsf:PR.AA-05", "cis:6.8", "pcidss:7.2.5", "pcidss:7.2.5.1", "hipaa:164.502(b)", "owaspnhi:NHI5:2025", "attack:T1550.001"]
risk        = "Whoever takes over the application, or the agent that runs in it, can do all that its scopes allow and not only what it was built for."
remediation = "Take the unused scopes from what the application asks for, and cap it with a forbid policy in Keycard; the scopes of the Attio app itself can shrink only as far as every application behind the same provider allows."
*/
SET VARIABLE min_index = 0.25;
SET VARIABLE min_active_days = 10;
SET VARIABLE max_unseen_mass = 0.15;
SET VARIABLE max_age_gap_days = 7;

WITH bounds AS (
    SELECT
        starts_at, ends_at, CAST(starts_at AT TIME ZONE 'UTC' AS DATE) AS first_day, CAST(ends_at AT TIME ZONE 'UTC' AS DATE) AS end_day,
        greatest(starts_at, log_starts_at) AS observed_from,
        floor(epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / 86400.0) AS day_count,
        (SELECT row_count FROM evidence WHERE need = 'api_calls') > 0 AS has_calls
    FROM period
),

-- Distinct lists first, then their scopes: lists are what costs.
issue_lists AS (
    SELECT application_id, max(application_name) AS application_name, resource_id, issued_scopes, min(occurred_at) AS first_at,
        max(occurred_at) AS last_at, count(*) FILTER (occurred_at >= bounds.starts_at) AS issue_count
    FROM credential_issues, bounds
    WHERE is_issued AND application_id IS NOT NULL AND resource_id IS NOT NULL AND occurred_at < bounds.ends_at
    GROUP BY application_id, resource_id, issued_scopes
),

applications AS (
    SELECT application_id, resource_id, max(application_name) AS application_name, sum(issue_count) AS issue_count,
        max(last_at) AS last_issued_at,
        coalesce(sum(issue_count) FILTER (issued_scopes IS NULL), 0) AS unnamed_issue_count
    FROM issue_lists
    GROUP BY application_id, resource_id
    HAVING sum(issue_count) > 0
),

issued AS (
    SELECT application_id, resource_id, scope, min(first_at) AS first_at, sum(issue_count) AS issue_count
    FROM (SELECT application_id, resource_id, unnest(issued_scopes) AS scope, first_at, issue_count FROM issue_lists)
    GROUP BY application_id, resource_id, scope
    HAVING sum(issue_count) > 0
),

-- What the people behind an application have granted: the level above, where the log shows no calls (by request).
granted AS (
    SELECT i.application_id, i.resource_id, g.scope, min(g.granted_at) AS first_at
    FROM (
        SELECT DISTINCT application_id, resource_id, user_id
        FROM credential_issues, bounds
        WHERE is_issued AND occurred_at >= bounds.starts_at AND occurred_at < bounds.ends_at
    ) AS i
    INNER JOIN grants AS g ON i.user_id = g.user_id AND i.resource_id = g.resource_id
    GROUP BY i.application_id, i.resource_id, g.scope
),

held AS (
    SELECT application_id, resource_id, scope, first_at FROM issued WHERE (SELECT has_calls FROM bounds)
    UNION ALL
    SELECT application_id, resource_id, scope, first_at FROM granted WHERE NOT (SELECT has_calls FROM bounds)
),

assessable AS (
    SELECT DISTINCT split_part(scope, ':', 1) AS family FROM (SELECT unnest(scopes) AS scope FROM operations)
),

-- One row a privilege: read or write of a family. Read-write holds both.
held_access AS (
    SELECT
        h.application_id, h.resource_id, s.family, a.access, min(h.first_at) AS first_at,
        max(CASE a.access WHEN 'read' THEN 1 ELSE 3 END * CASE WHEN one.sensitivity = 'critical' THEN 3 ELSE 1 END) AS weight,
        bool_or(one.sensitivity = 'critical') AS is_critical,
        max(h.scope) AS scope
    FROM held AS h
    INNER JOIN scopes AS s ON h.scope = s.scope
    INNER JOIN assessable ON s.family = assessable.family
    INNER JOIN (VALUES ('read'), ('write')) AS a (access) ON a.access = 'read' OR s.access = 'read-write'
    INNER JOIN scopes AS one ON one.family = s.family AND one.access = CASE a.access WHEN 'read' THEN 'read' ELSE 'read-write' END
    GROUP BY h.application_id, h.resource_id, s.family, a.access
),

used_access AS (
    SELECT application_id, resource_id, family, access, max(occurred_day) AS last_day
    FROM access_use, bounds
    WHERE occurred_day >= first_day AND occurred_day < end_day AND has_calls
    GROUP BY application_id, resource_id, family, access
    UNION ALL
    SELECT i.application_id, i.resource_id, s.family, a.access, NULL
    FROM issued AS i
    INNER JOIN scopes AS s ON i.scope = s.scope
    INNER JOIN (VALUES ('read'), ('write')) AS a (access) ON a.access = 'read' OR s.access = 'read-write'
    WHERE NOT (SELECT has_calls FROM bounds)
    GROUP BY ALL
),

compared AS (
    SELECT
        h.*, u.family IS NOT NULL AS is_used,
        -- A privilege that is younger than the period cannot be called unused in it.
        h.first_at > b.observed_from + to_hours(24 * parameter('max_age_gap_days')) AS is_young
    FROM held_access AS h
    CROSS JOIN bounds AS b
    LEFT JOIN used_access AS u
        ON h.application_id = u.application_id AND h.resource_id = u.resource_id AND h.family = u.family AND h.access = u.access
),

scored AS (
    SELECT
        application_id, resource_id,
        sum(weight) FILTER (NOT is_used AND NOT is_young) / sum(weight) FILTER (is_used OR NOT is_young) AS over_privilege_index,
        count(*) FILTER (NOT is_used AND NOT is_young) / count(*) FILTER (is_used OR NOT is_young) AS unweighted_index,
        bool_or(is_critical AND NOT is_used AND NOT is_young) AS is_critical,
        list_sort(list(family || ' ' || access) FILTER (NOT is_used AND NOT is_young)) AS unused,
        list_sort(list(family || ' ' || access) FILTER (is_used)) AS used,
        count(*) FILTER (NOT is_used AND is_young) AS young_count
    FROM compared
    GROUP BY application_id, resource_id
),

operation_days AS (
    SELECT application_id, resource_id, operation, count(DISTINCT occurred_day) AS day_count, sum(call_count) AS call_count,
        sum(unmatched_count) AS unmatched_count
    FROM daily_operation_use, bounds
    WHERE occurred_day >= first_day AND occurred_day < end_day
    GROUP BY application_id, resource_id, operation
),

active AS (
    SELECT application_id, resource_id, count(DISTINCT occurred_day) AS active_day_count
    FROM daily_operation_use, bounds
    WHERE occurred_day >= first_day AND occurred_day < end_day
    GROUP BY application_id, resource_id
),

activity AS (
    -- Good (1953): the share of operation-days yet unseen is about the share of operations seen on one day only.
    SELECT o.application_id, o.resource_id, sum(call_count) AS call_count, sum(unmatched_count) AS unmatched_count,
        count(*) FILTER (day_count = 1 AND operation IS NOT NULL) / nullif(sum(day_count) FILTER (operation IS NOT NULL), 0) AS unseen_mass
    FROM operation_days AS o
    GROUP BY o.application_id, o.resource_id
),

gaps AS (
    SELECT application_id, resource_id, sum(expected_call_count) AS expected_call_count
    FROM calls_expected_in_gaps
    GROUP BY application_id, resource_id
),

judged AS (
    SELECT
        s.*, b.*, a.application_name, a.issue_count, a.last_issued_at, a.unnamed_issue_count,
        coalesce(act.call_count, 0) AS call_count, coalesce(act.unmatched_count, 0) AS unmatched_count,
        coalesce(act.unseen_mass, 1) AS unseen_mass, coalesce(d.active_day_count, 0) AS active_day_count,
        coalesce(g.expected_call_count, 0) AS expected_in_gaps
    FROM scored AS s
    CROSS JOIN bounds AS b
    INNER JOIN applications AS a ON s.application_id = a.application_id AND s.resource_id = a.resource_id
    LEFT JOIN activity AS act ON s.application_id = act.application_id AND s.resource_id = act.resource_id
    LEFT JOIN active AS d ON s.application_id = d.application_id AND s.resource_id = d.resource_id
    LEFT JOIN gaps AS g ON s.application_id = g.application_id AND s.resource_id = g.resource_id
    WHERE s.over_privilege_index >= parameter('min_index')
)

SELECT
    application_id || ' × ' || resource_id AS entity,
    coalesce(application_name, application_id)
    || CASE WHEN has_calls THEN ' is issued ' || (len(used) + len(unused)) || ' privileges and used ' || coalesce(len(used), 0)
            ELSE ' could be asked for ' || (len(used) + len(unused)) || ' privileges that its users granted and asked for ' || coalesce(len(used), 0) || ' (by request: the log shows no calls)' END
    || '; unused: ' || array_to_string(unused, ', ')
    || '. Over-privilege index ' || printf('%.2f', over_privilege_index) || ' of 1' AS reason,
    CASE WHEN NOT has_calls THEN 'low'
         WHEN is_critical AND over_privilege_index >= 0.5 THEN 'high'
         ELSE 'medium' END AS severity,
    CASE
        WHEN NOT has_calls AND unnamed_issue_count > 0 THEN unnamed_issue_count || ' of its credential issues name no scopes, and may have used any'
        WHEN NOT has_calls THEN NULL
        WHEN call_count = 0 THEN 'no call of this application is in the log although ' || issue_count || ' credentials were issued to it: it may not show all calls'
        WHEN unmatched_count > 0 THEN unmatched_count || ' of its calls match no known operation and may have used any scope'
        WHEN expected_in_gaps >= 1 THEN 'the log has gaps in which about ' || CAST(round(expected_in_gaps) AS BIGINT) || ' of its calls were to be expected'
        WHEN active_day_count < parameter('min_active_days')
            THEN 'it was active on ' || active_day_count || ' days; ' || parameter('min_active_days') || ' are needed'
        WHEN unseen_mass > parameter('max_unseen_mass')
            THEN 'its use is too varied to know it all: ' || printf('%.0f', 100 * unseen_mass) || ' % of what it does is probably not yet seen'
    END AS inconclusive_because,
    (SELECT min(occurred_at) FROM events WHERE kind = 'credential_issue' AND events.application_id = judged.application_id
        AND events.resource_id = judged.resource_id AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS first_at,
    last_issued_at AS last_at,
    (SELECT count(*) FROM events WHERE kind IN ('credential_issue', 'api_call') AND events.application_id = judged.application_id
        AND events.resource_id = judged.resource_id AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS event_count,
    (SELECT arg_min(event_uid, row(occurred_at, event_uid), 5) FROM events WHERE kind IN ('credential_issue', 'api_call') AND events.application_id = judged.application_id
        AND events.resource_id = judged.resource_id AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS event_uids,
    'SELECT * FROM events WHERE kind IN (''credential_issue'', ''api_call'') AND application_id = ' || sql_literal(application_id)
    || ' AND resource_id = ' || sql_literal(resource_id) || ' AND occurred_at >= ' || sql_instant(starts_at)
    || ' AND occurred_at < ' || sql_instant(ends_at) || ' ORDER BY occurred_at, event_uid' AS events_sql,
    application_id,
    resource_id,
    round(over_privilege_index, 3) AS over_privilege_index,
    round(unweighted_index, 3) AS unweighted_index,
    unused AS unused_privileges,
    coalesce(used, CAST([] AS VARCHAR[])) AS used_privileges,
    CASE WHEN has_calls THEN 'by use' ELSE 'by request' END AS evidence,
    CASE
        WHEN NOT has_calls THEN 'low'
        WHEN day_count >= 89 AND active_day_count >= 20 AND unseen_mass <= 0.05 AND expected_in_gaps < 1 AND unmatched_count = 0 THEN 'high'
        ELSE 'medium'
    END AS confidence,
    active_day_count,
    call_count,
    issue_count,
    round(unseen_mass, 3) AS unseen_mass,
    round(expected_in_gaps, 2) AS calls_expected_in_gaps,
    young_count AS too_young_to_judge_count
FROM judged
ORDER BY entity
