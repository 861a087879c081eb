/*
title       = "Applications are issued the scopes that they use, and no more"
severity    = "high"
needs       = ["credential_issues", "log_of_30_days"]
controls    = [
    "soc2:CC6.1", "soc2:CC6.3", "iso27001:A.5.15", "iso27001:A.5.18", "iso27001:A.8.3", "nist80053:AC-6",
    "nist80053:AC-6(7)", "nistcsf:PR.AA-05", "cis:6.8", "pcidss:7.2.5", "pcidss:7.2.5.1", "hipaa:164.502(b)",
    "owaspnhi:NHI5:2025", "attack:T1550.001",
]
risk        = "Whoever takes over the application, or the agent that runs in it, can do all that its scopes allow and not only what it was built for."
remediation = """\
    Take the unused scopes from what the application asks for, and cap it with a forbid policy in Keycard; the \
    scopes of the Attio app itself can shrink only as far as every application behind the same provider \
    allows."""
*/
SET VARIABLE min_index = 0.25;
SET VARIABLE min_active_days = 10;
SET VARIABLE max_unseen_mass = 0.15;
SET VARIABLE max_age_gap_days = 7;
SET VARIABLE look_back_days = 400;

WITH bounds AS (
    SELECT
        starts_at, ends_at, CAST(starts_at AT TIME ZONE 'UTC' AS DATE) AS first_day,
        CAST((ends_at - to_microseconds(1)) AT TIME ZONE 'UTC' AS DATE) AS last_day,
        CAST(starts_at AT TIME ZONE 'UTC' AS DATE) - CAST(parameter('look_back_days') AS INTEGER) AS look_back_day,
        greatest(starts_at, log_starts_at) AS observed_from,
        round(epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / 86400.0) AS day_count,
        (SELECT row_count FROM evidence WHERE need = 'api_calls') > 0 AS has_calls
    FROM period
),

-- Distinct lists first, then their scopes: lists are what costs. Issues that name no resource are a row of their own.
issue_lists AS (
    SELECT application_id, max(application_name) AS application_name, coalesce(resource_id, 'resource not named') AS resource_id,
        issued_scopes, min(occurred_at) AS first_at, max(occurred_at) AS last_at,
        count(*) FILTER (occurred_at >= bounds.starts_at) AS issue_count
    FROM credential_issues, bounds
    WHERE is_issued AND application_id IS NOT NULL AND occurred_at < bounds.ends_at
    GROUP BY ALL
),

applications AS (
    SELECT application_id, resource_id, max(application_name) AS application_name, sum(issue_count) AS issue_count,
        max(last_at) AS last_issued_at,
        coalesce(sum(issue_count) FILTER (issued_scopes IS NULL), 0) AS unnamed_issue_count
    FROM issue_lists
    GROUP BY application_id, resource_id
),

issued AS (
    SELECT application_id, resource_id, scope, min(first_at) AS first_at, max(last_at) AS last_at, sum(issue_count) AS issue_count
    FROM (SELECT application_id, resource_id, unnest(issued_scopes) AS scope, first_at, last_at, issue_count FROM issue_lists)
    GROUP BY application_id, resource_id, scope
),

-- What the people behind an application have granted: the level above, where the log shows no calls (by request).
granted AS (
    SELECT i.application_id, i.resource_id, g.scope, min(g.granted_at) AS first_at
    FROM (
        SELECT DISTINCT application_id, coalesce(resource_id, 'resource not named') AS resource_id, user_id
        FROM credential_issues, bounds
        WHERE is_issued AND occurred_at >= bounds.starts_at AND occurred_at < bounds.ends_at
    ) AS i
    INNER JOIN grants AS g ON i.user_id = g.user_id AND i.resource_id = coalesce(g.resource_id, 'resource not named')
    GROUP BY i.application_id, i.resource_id, g.scope
),

held AS (
    SELECT application_id, resource_id, scope, first_at FROM issued WHERE issue_count > 0 AND (SELECT has_calls FROM bounds)
    UNION ALL
    SELECT application_id, resource_id, scope, first_at FROM granted WHERE NOT (SELECT has_calls FROM bounds)
),

-- A privilege is to read or to write a family; read-write holds both.
privileges AS (
    SELECT s.scope, s.family, a.access
    FROM scopes AS s
    INNER JOIN (VALUES ('read'), ('write')) AS a (access) ON a.access = 'read' OR s.access = 'read-write'
),

-- Only what some known operation needs can be seen in use.
assessable AS (
    SELECT DISTINCT p.family, p.access
    FROM (SELECT unnest(scopes) AS scope FROM operations) AS o
    INNER JOIN privileges AS p ON o.scope = p.scope
),

held_access AS (
    SELECT
        h.application_id, h.resource_id, p.family, p.access, min(h.first_at) AS first_at,
        max(CASE p.access WHEN 'read' THEN 1 ELSE 3 END * CASE WHEN one.sensitivity = 'critical' THEN 3 ELSE 1 END) AS weight,
        bool_or(one.sensitivity = 'critical') AS is_critical
    FROM held AS h
    INNER JOIN privileges AS p ON h.scope = p.scope
    INNER JOIN assessable ON p.family = assessable.family AND p.access = assessable.access
    INNER JOIN scopes AS one ON one.family = p.family AND one.access = CASE p.access WHEN 'read' THEN 'read' ELSE 'read-write' END
    GROUP BY h.application_id, h.resource_id, p.family, p.access
),

not_assessable AS (
    SELECT application_id, resource_id, list_sort(list(DISTINCT scope)) AS scopes
    FROM held
    WHERE scope NOT IN (SELECT p.scope FROM privileges AS p INNER JOIN assessable AS a ON p.family = a.family AND p.access = a.access)
    GROUP BY application_id, resource_id
),

used_access AS (
    SELECT application_id, resource_id, family, access, max(occurred_day) AS used_day
    FROM access_use, bounds
    WHERE has_calls AND occurred_day BETWEEN look_back_day AND last_day
    GROUP BY application_id, resource_id, family, access
    UNION ALL
    SELECT application_id, resource_id, family, access, max(CAST(last_at AT TIME ZONE 'UTC' AS DATE)) AS used_day
    FROM issued
    INNER JOIN privileges AS p ON issued.scope = p.scope
    CROSS JOIN bounds
    WHERE NOT has_calls AND last_at AT TIME ZONE 'UTC' >= look_back_day
    GROUP BY application_id, resource_id, family, access
),

compared AS (
    SELECT
        h.*, h.family || ' ' || h.access AS privilege,
        CASE
            WHEN u.used_day >= b.first_day THEN 'used'
            -- A job that runs once a year is not seen in every period.
            WHEN u.used_day IS NOT NULL THEN 'used before'
            -- A privilege that is younger than the period cannot be called unused in it.
            WHEN h.first_at > b.observed_from + to_hours(CAST(24 * parameter('max_age_gap_days') AS BIGINT)) THEN 'young'
            ELSE 'unused'
        END AS state
    FROM held_access AS h
    CROSS JOIN bounds AS b
    LEFT JOIN used_access AS u
        ON h.application_id = u.application_id AND h.resource_id = u.resource_id AND h.family = u.family AND h.access = u.access
),

scored AS (
    SELECT
        application_id, resource_id, count(*) AS privilege_count,
        sum(weight) FILTER (state = 'unused') / sum(weight) FILTER (state IN ('used', 'unused')) AS over_privilege_index,
        count(*) FILTER (state = 'unused') / count(*) FILTER (state IN ('used', 'unused')) AS unweighted_index,
        -- What the index is if nothing that cannot be judged yet is needed.
        sum(weight) FILTER (state <> 'used') / sum(weight) AS highest_index,
        bool_or(is_critical AND state = 'unused') AS is_critical,
        list_sort(list(privilege) FILTER (state = 'unused')) AS unused,
        list_sort(list(privilege) FILTER (state = 'used')) AS used,
        list_sort(list(privilege) FILTER (state IN ('used before', 'young'))) AS undecided,
        count(*) FILTER (state = 'young') AS young_count
    FROM compared
    GROUP BY application_id, resource_id
),

activity AS (
    SELECT application_id, resource_id, count(DISTINCT occurred_day) AS active_day_count, sum(call_count) AS call_count,
        sum(unmatched_count) AS unmatched_count, sum(untold_count) AS untold_count
    FROM daily_operation_use, bounds
    WHERE occurred_day BETWEEN first_day AND last_day
    GROUP BY application_id, resource_id
),

variety AS (
    -- Good (1953): the share of operation-days yet unseen is about the share of operations seen on one day only.
    SELECT application_id, resource_id, count(*) FILTER (day_count = 1) / sum(day_count) AS unseen_mass
    FROM (
        SELECT application_id, resource_id, operation, count(DISTINCT occurred_day) AS day_count
        FROM daily_operation_use, bounds
        WHERE occurred_day BETWEEN first_day AND last_day AND operation IS NOT NULL
        GROUP BY application_id, resource_id, operation
    )
    GROUP BY application_id, resource_id
),

gaps AS (
    SELECT application_id, resource_id, sum(expected_call_count) AS expected_call_count, sum(expected_issue_count) AS expected_issue_count
    FROM expected_in_gaps
    GROUP BY application_id, resource_id
),

gathered AS (
    SELECT
        a.*, b.starts_at, b.ends_at, b.day_count, b.has_calls, coalesce(a.application_name, a.application_id) AS name,
        coalesce(s.privilege_count, 0) AS privilege_count, coalesce(s.over_privilege_index, 0) AS over_privilege_index,
        coalesce(s.unweighted_index, 0) AS unweighted_index, coalesce(s.highest_index, 0) AS highest_index,
        coalesce(s.is_critical, false) AS is_critical, coalesce(s.young_count, 0) AS young_count,
        coalesce(s.unused, CAST([] AS VARCHAR[])) AS unused, coalesce(s.used, CAST([] AS VARCHAR[])) AS used,
        coalesce(s.undecided, CAST([] AS VARCHAR[])) AS undecided, coalesce(n.scopes, CAST([] AS VARCHAR[])) AS not_assessable,
        coalesce(act.call_count, 0) AS call_count, coalesce(act.active_day_count, 0) AS active_day_count,
        coalesce(act.unmatched_count, 0) AS unmatched_count, coalesce(act.untold_count, 0) AS untold_count,
        coalesce(v.unseen_mass, 1) AS unseen_mass,
        coalesce(CASE WHEN b.has_calls THEN g.expected_call_count ELSE g.expected_issue_count END, 0) AS expected_in_gaps
    FROM applications AS a
    CROSS JOIN bounds AS b
    LEFT JOIN scored AS s ON a.application_id = s.application_id AND a.resource_id = s.resource_id
    LEFT JOIN not_assessable AS n ON a.application_id = n.application_id AND a.resource_id = n.resource_id
    LEFT JOIN activity AS act ON a.application_id = act.application_id AND a.resource_id = act.resource_id
    LEFT JOIN variety AS v ON a.application_id = v.application_id AND a.resource_id = v.resource_id
    LEFT JOIN gaps AS g ON a.application_id = g.application_id AND a.resource_id = coalesce(g.resource_id, 'resource not named')
),

judged AS (
    SELECT
        *,
        CASE
            WHEN NOT has_calls AND unnamed_issue_count > 0
                THEN unnamed_issue_count || ' of its credential issues named no scopes, and may have been for any'
            WHEN has_calls AND call_count = 0
                THEN 'it had ' || counted(issue_count, 'credential') || ' issued and no call of it is in the log: the log may not show all calls'
            WHEN unmatched_count > 0 THEN unmatched_count || ' of its calls cannot be matched to a known operation and may have used any scope'
            WHEN untold_count > 0 THEN 'how ' || untold_count || ' of its calls ended is not told: they may have used their scopes'
            WHEN expected_in_gaps >= 1
                THEN 'the log has gaps in which about ' || CAST(round(expected_in_gaps) AS BIGINT) || ' of its '
                    || CASE WHEN has_calls THEN 'calls' ELSE 'credential issues' END || ' could be expected'
            WHEN has_calls AND active_day_count < parameter('min_active_days')
                THEN 'it was active on ' || counted(active_day_count, 'day') || '; ' || parameter('min_active_days') || ' are needed'
            WHEN has_calls AND unseen_mass > parameter('max_unseen_mass')
                THEN 'its use is too varied to know it all: ' || printf('%.0f', 100 * unseen_mass) || ' % of what it does is probably not yet seen'
            WHEN over_privilege_index >= parameter('min_index') THEN NULL
            WHEN highest_index >= parameter('min_index')
                THEN 'what it did not use is too new to be called unused, or was in use before the period: rare use, ask the owner'
            ELSE unnamed_issue_count || ' of its credential issues named no scopes: what they opened is not known'
        END AS inconclusive_because
    FROM gathered
    WHERE highest_index >= parameter('min_index')
        -- Scopes that are not named are not none.
        OR (unnamed_issue_count > 0 AND (has_calls OR privilege_count = 0))
)

SELECT
    application_id || ' × ' || resource_id AS entity,
    name
    || CASE WHEN privilege_count = 0 THEN ' is issued credentials whose scopes the log does not name'
            WHEN has_calls THEN ' is issued ' || counted(privilege_count, 'privilege') || ' and used ' || len(used)
            ELSE ' could ask for ' || counted(privilege_count, 'privilege') || ' that its users granted and asked for ' || len(used)
                || ' (by request: the log shows no calls)' END
    || CASE WHEN len(unused) > 0 THEN '; unused: ' || array_to_string(unused, ', ') ELSE '' END
    || CASE WHEN len(undecided) > 0 THEN '; not used, and not yet to be judged: ' || array_to_string(undecided, ', ') ELSE '' END
    || CASE WHEN len(unused) > 0 THEN '. Over-privilege index ' || printf('%.2f', over_privilege_index) || ' of 1' ELSE '' END AS reason,
    -- Grave is what is mostly unused and can do most harm; what is not known to be unused is for review.
    CASE WHEN NOT has_calls OR over_privilege_index < parameter('min_index') THEN 'low'
         WHEN is_critical AND over_privilege_index >= 0.5 THEN 'high'
         ELSE 'medium' END AS severity,
    inconclusive_because,
    (SELECT min(occurred_at) FROM events WHERE kind = 'credential_issue' AND events.application_id = judged.application_id
        AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS first_at,
    last_issued_at AS last_at,
    (SELECT count(*) FROM events WHERE kind IN ('credential_issue', 'api_call') AND events.application_id = judged.application_id
        AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS event_count,
    (SELECT arg_min(event_uid, row(occurred_at, event_uid), 5) FROM events
        WHERE kind IN ('credential_issue', 'api_call') AND events.application_id = judged.application_id
        AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND occurred_at >= judged.starts_at AND occurred_at < judged.ends_at) AS event_uids,
    'SELECT * FROM events WHERE kind IN (''credential_issue'', ''api_call'') AND application_id = ' || sql_literal(application_id)
    || ' AND coalesce(resource_id, ''resource not named'') = ' || sql_literal(resource_id) || ' AND occurred_at >= ' || sql_instant(starts_at)
    || ' AND occurred_at < ' || sql_instant(ends_at) || ' ORDER BY occurred_at, event_uid' AS events_sql,
    application_id,
    resource_id,
    round(over_privilege_index, 3) AS over_privilege_index,
    round(unweighted_index, 3) AS unweighted_index,
    unused AS unused_privileges,
    used AS used_privileges,
    undecided AS undecided_privileges,
    not_assessable AS not_assessable_scopes,
    CASE WHEN has_calls THEN 'by use' ELSE 'by request' END AS evidence,
    CASE
        WHEN NOT has_calls OR inconclusive_because IS NOT NULL THEN 'low'
        WHEN day_count >= 90 AND active_day_count >= 20 AND unseen_mass <= 0.05 THEN 'high'
        ELSE 'medium'
    END AS confidence,
    active_day_count,
    call_count,
    issue_count,
    round(unseen_mass, 3) AS unseen_mass,
    round(expected_in_gaps, 2) AS expected_in_gaps,
    young_count AS too_young_to_judge_count
FROM judged
ORDER BY entity
