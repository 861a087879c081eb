/*
title       = "Every read-write scope that a user has granted is used for writing"
severity    = "high"
needs       = ["grants", "credential_issues", "log_of_30_days"]
controls    = [
    "soc2:CC6.3", "iso27001:A.5.18", "iso27001:A.8.2", "nist80053:AC-6", "nist80053:AC-6(7)",
    "nistcsf:PR.AA-05", "cis:3.3", "cis:6.8", "pcidss:7.2.5.1", "hipaa:164.308(a)(4)(ii)(C)",
    "owaspnhi:NHI5:2025",
]
risk        = "A standing permission to write that nobody needs is what an attacker or an erring agent will use."
remediation = """\
    Ask the owner; then revoke the user's grant at the resource in the Keycard Console and ask for consent to \
    the smaller set, and take the scope from the applications that ask for it."""
*/
SET VARIABLE min_active_days = 10;
SET VARIABLE max_age_gap_days = 7;
SET VARIABLE look_back_days = 400;

WITH bounds AS (
    SELECT
        starts_at, ends_at, CAST(starts_at AT TIME ZONE 'UTC' AS DATE) AS first_day,
        CAST((ends_at - to_microseconds(1)) AT TIME ZONE 'UTC' AS DATE) AS last_day,
        CAST(starts_at AT TIME ZONE 'UTC' AS DATE) - CAST(parameter('look_back_days') AS INTEGER) AS look_back_day,
        greatest(starts_at, log_starts_at) AS observed_from,
        CAST(round(epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / 86400.0) AS BIGINT) AS day_count,
        (SELECT row_count FROM evidence WHERE need = 'api_calls') > 0 AS has_calls
    FROM period
),

held AS (
    SELECT g.user_id, coalesce(g.resource_id, 'resource not named') AS resource_id, g.scope, g.granted_at, g.basis, s.family, s.sensitivity
    FROM grants AS g
    INNER JOIN scopes AS s ON g.scope = s.scope
    WHERE g.user_id IS NOT NULL AND s.access = 'read-write'
        -- A scope that no known operation needs cannot be judged from calls.
        AND g.scope IN (SELECT unnest(scopes) FROM operations)
),

-- Distinct lists first, then their scopes: lists are what costs.
issue_lists AS (
    SELECT user_id, coalesce(resource_id, 'resource not named') AS resource_id, requested_scopes, max(occurred_at) AS last_at,
        count(*) FILTER (occurred_at >= starts_at) AS issue_count,
        count(*) FILTER (occurred_at >= starts_at AND is_issued) AS issued_count
    FROM credential_issues, bounds
    WHERE occurred_at AT TIME ZONE 'UTC' >= look_back_day AND occurred_at < ends_at
    GROUP BY ALL
),

issues AS (
    SELECT user_id, resource_id, sum(issue_count) AS issue_count, sum(issued_count) AS issued_count,
        coalesce(sum(issued_count) FILTER (requested_scopes IS NULL), 0) AS unnamed_count
    FROM issue_lists
    GROUP BY user_id, resource_id
),

uses AS (
    SELECT user_id, resource_id, family, max(occurred_day) AS used_day
    FROM access_use, bounds
    WHERE has_calls AND access = 'write' AND occurred_day BETWEEN look_back_day AND last_day
    GROUP BY user_id, resource_id, family
    UNION ALL
    -- In a log without calls, to ask for the scope is the only sign of use (by request).
    SELECT i.user_id, i.resource_id, s.family, max(CAST(i.last_at AT TIME ZONE 'UTC' AS DATE)) AS used_day
    FROM (SELECT user_id, resource_id, unnest(requested_scopes) AS scope, last_at FROM issue_lists) AS i
    INNER JOIN scopes AS s ON i.scope = s.scope
    CROSS JOIN bounds
    WHERE NOT has_calls AND s.access = 'read-write'
    GROUP BY i.user_id, i.resource_id, s.family
),

activity AS (
    SELECT user_id, resource_id, sum(call_count) AS call_count, count(DISTINCT occurred_day) AS active_day_count,
        sum(unmatched_count) AS unmatched_count, sum(untold_count) AS untold_count
    FROM daily_operation_use, bounds
    WHERE occurred_day BETWEEN first_day AND last_day
    GROUP BY user_id, resource_id
),

gaps AS (
    SELECT user_id, resource_id, sum(expected_call_count) AS expected_call_count, sum(expected_issue_count) AS expected_issue_count
    FROM expected_in_gaps
    GROUP BY user_id, resource_id
),

compared AS (
    SELECT
        h.*, u.used_day,
        CASE
            -- A job that runs once a year is not seen in every period.
            WHEN u.used_day IS NOT NULL THEN 'used before'
            -- Only a grant that existed for the whole period can be called unused in it; one known from its first issue is older than that.
            WHEN h.granted_at > b.observed_from + to_hours(CASE h.basis WHEN 'issue' THEN CAST(24 * parameter('max_age_gap_days') AS BIGINT) ELSE 0 END)
                THEN 'young'
            ELSE 'unused'
        END AS state
    FROM held AS h
    CROSS JOIN bounds AS b
    LEFT JOIN uses AS u ON h.user_id = u.user_id AND h.resource_id = u.resource_id AND h.family = u.family
    WHERE u.used_day IS NULL OR u.used_day < b.first_day
),

-- A finding speaks of what is unused; only where there is none, of what may be.
shown AS (
    SELECT *, state = 'unused' OR NOT bool_or(state = 'unused') OVER (PARTITION BY user_id, resource_id) AS is_shown
    FROM compared
),

unused AS (
    SELECT
        user_id, resource_id, bool_or(state = 'unused') AS is_decided,
        list_sort(list(scope) FILTER (is_shown)) AS scopes, list_sort(list(scope) FILTER (NOT is_shown)) AS undecided_scopes,
        bool_or(sensitivity = 'critical' AND is_shown) AS is_critical, min(granted_at) FILTER (is_shown) AS granted_at,
        bool_and(basis = 'consent') FILTER (is_shown) AS is_from_consent, max(used_day) AS used_day
    FROM shown
    GROUP BY user_id, resource_id
),

judged AS (
    SELECT
        n.*, b.starts_at, b.ends_at, b.has_calls, b.day_count,
        coalesce(a.call_count, 0) AS call_count, coalesce(a.active_day_count, 0) AS active_day_count,
        coalesce(a.unmatched_count, 0) AS unmatched_count, coalesce(a.untold_count, 0) AS untold_count,
        coalesce(i.issue_count, 0) AS issue_count, coalesce(i.issued_count, 0) AS issued_count,
        coalesce(i.unnamed_count, 0) AS unnamed_count,
        coalesce(CASE WHEN b.has_calls THEN g.expected_call_count ELSE g.expected_issue_count END, 0) AS expected_in_gaps,
        CASE WHEN len(n.scopes) = 1 THEN 'it' ELSE 'them' END AS scopes_pronoun
    FROM unused AS n
    CROSS JOIN bounds AS b
    LEFT JOIN activity AS a ON n.user_id = a.user_id AND n.resource_id = a.resource_id
    LEFT JOIN issues AS i ON n.user_id = i.user_id AND n.resource_id = i.resource_id
    LEFT JOIN gaps AS g ON n.user_id = g.user_id AND n.resource_id = coalesce(g.resource_id, 'resource not named')
)

SELECT
    user_id || ' × ' || resource_id AS entity,
    user_id || ' has granted ' || array_to_string(scopes, ', ') || CASE WHEN is_from_consent THEN ' since ' ELSE ' since before ' END
    || strftime(granted_at AT TIME ZONE 'UTC', '%Y-%m-%d')
    || CASE WHEN NOT has_calls THEN '; none of ' || counted(issue_count, 'credential issue') || ' asked for ' || scopes_pronoun || ' (by request: the log shows no calls)'
            WHEN call_count = 0 THEN '; not one call for this user is in the log of ' || counted(day_count, 'day')
            ELSE '; none of ' || counted(call_count, 'call') || ' on ' || counted(active_day_count, 'day') || ' wrote with ' || scopes_pronoun
                || ', in a log of ' || counted(day_count, 'day') END AS reason,
    CASE WHEN NOT has_calls OR NOT is_decided THEN 'low' WHEN is_critical THEN 'high' ELSE 'medium' END AS severity,
    CASE
        WHEN resource_id = 'resource not named' THEN 'the log does not name the resource of this grant: what was done with it is not known'
        WHEN NOT has_calls AND unnamed_count > 0 THEN unnamed_count || ' of the credential issues for this user named no scopes, and may have been for any'
        WHEN unmatched_count > 0 THEN unmatched_count || ' of the calls for this user cannot be matched to a known operation and may have used any scope'
        WHEN untold_count > 0 THEN 'how ' || untold_count || ' of the calls for this user ended is not told: they may have written'
        WHEN expected_in_gaps >= 1
            THEN 'the log has gaps in which about ' || CAST(round(expected_in_gaps) AS BIGINT) || ' of the '
                || CASE WHEN has_calls THEN 'calls' ELSE 'credential issues' END || ' for this user could be expected'
        WHEN has_calls AND call_count = 0 AND issued_count > 0
            THEN counted(issued_count, 'credential') || ' had been issued for this user and no call is in the log: the log may not show all calls'
        WHEN call_count > 0 AND active_day_count < parameter('min_active_days')
            THEN 'this user was active on ' || counted(active_day_count, 'day') || '; ' || parameter('min_active_days') || ' are needed'
        WHEN NOT is_decided AND used_day IS NOT NULL
            THEN CASE WHEN has_calls THEN 'last used for writing on ' ELSE 'last asked for on ' END || used_day || ', before the period: rare use, ask the owner'
        WHEN NOT is_decided THEN 'first granted within the period: too new to be called unused'
    END AS inconclusive_because,
    granted_at AS first_at,
    (SELECT max(occurred_at) FROM events WHERE events.user_id = judged.user_id AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND kind IN ('consent', 'credential_issue') AND occurred_at < judged.ends_at) AS last_at,
    (SELECT count(*) FROM events WHERE events.user_id = judged.user_id AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND (kind = 'consent' OR (kind IN ('credential_issue', 'api_call') AND occurred_at >= judged.starts_at)) AND occurred_at < judged.ends_at) AS event_count,
    (SELECT arg_min(event_uid, row(occurred_at, event_uid), 5) FROM events
        WHERE events.user_id = judged.user_id AND coalesce(events.resource_id, 'resource not named') = judged.resource_id
        AND (kind = 'consent' OR (kind IN ('credential_issue', 'api_call') AND occurred_at >= judged.starts_at)) AND occurred_at < judged.ends_at) AS event_uids,
    'SELECT * FROM events WHERE user_id = ' || sql_literal(user_id) || ' AND coalesce(resource_id, ''resource not named'') = ' || sql_literal(resource_id)
    || ' AND (kind = ''consent'' OR (kind IN (''credential_issue'', ''api_call'') AND occurred_at >= ' || sql_instant(starts_at)
    || ')) AND occurred_at < ' || sql_instant(ends_at) || ' ORDER BY occurred_at, event_uid' AS events_sql,
    user_id,
    resource_id,
    scopes AS unused_scopes,
    coalesce(undecided_scopes, CAST([] AS VARCHAR[])) AS undecided_scopes,
    CASE WHEN has_calls THEN 'by use' ELSE 'by request' END AS evidence,
    CASE WHEN is_from_consent THEN 'derived from consent events' ELSE 'derived from credential issues' END AS grant_known_from,
    active_day_count,
    call_count,
    issue_count,
    round(expected_in_gaps, 2) AS expected_in_gaps
FROM judged
ORDER BY entity
