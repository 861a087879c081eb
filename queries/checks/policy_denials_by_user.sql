/*
title       = "Nobody is refused by policy again and again"
severity    = "medium"
needs       = ["decisions"]
controls    = [
    "soc2:CC6.1", "soc2:CC6.3", "soc2:CC7.2", "iso27001:A.5.15", "iso27001:A.8.3", "iso27001:A.8.16",
    "nist80053:AC-3", "nist80053:AU-6", "cis:8.11", "pcidss:7.3.3", "pcidss:10.2.1.4",
]
risk        = "Repeated refusals are either someone probing for access that is not theirs, or a policy that stops people from doing their work."
remediation = """\
    Ask the user what was attempted. If it is rightful, change the named policy in the Keycard Console or, for \
    a default deny, add a permit; if not, treat it as an attempt and look at what the same session did next."""
*/
SET VARIABLE min_denials = 10;

WITH denials AS (
    SELECT
        event_uid, occurred_at, user_id, application_id, resource_id, requested_scopes, policy_set_id, policy_set_version,
        coalesce(user_id, application_id, 'nobody named') AS subject,
        -- A denial that names no policy is a default deny: nothing permitted it.
        coalesce(nullif(array_to_string(policy_names, ', '), ''), 'default deny') AS policy
    FROM events, period
    WHERE decision = 'denied'
        -- On a call, "denied" without a policy is the resource's own 401 or 403.
        AND (kind <> 'api_call' OR len(policy_names) > 0)
        AND occurred_at >= period.starts_at AND occurred_at < period.ends_at
)

SELECT
    subject || ' × ' || policy AS entity,
    counted(count(*), 'denial') || ' of ' || subject || ' by ' || policy || ' on '
    || counted(count(DISTINCT CAST(occurred_at AT TIME ZONE 'UTC' AS DATE)), 'day') || ', '
    || strftime(min(occurred_at) AT TIME ZONE 'UTC', '%Y-%m-%d') || ' to ' || strftime(max(occurred_at) AT TIME ZONE 'UTC', '%Y-%m-%d')
    || CASE WHEN policy = 'default deny' THEN ': no policy permits what was asked for' ELSE '' END AS reason,
    'medium' AS severity,
    min(occurred_at) AS first_at,
    max(occurred_at) AS last_at,
    count(*) AS event_count,
    arg_min(event_uid, row(occurred_at, event_uid), 5) AS event_uids,
    'SELECT * FROM events WHERE decision = ''denied'' AND (kind <> ''api_call'' OR len(policy_names) > 0)'
    || ' AND coalesce(user_id, application_id, ''nobody named'') = ' || sql_literal(subject)
    || ' AND coalesce(nullif(array_to_string(policy_names, '', ''), ''''), ''default deny'') = ' || sql_literal(policy)
    || ' AND occurred_at BETWEEN ' || sql_instant(min(occurred_at)) || ' AND ' || sql_instant(max(occurred_at))
    || ' ORDER BY occurred_at, event_uid' AS events_sql,
    max(user_id) AS user_id,
    policy,
    max(policy_set_id) AS policy_set_id,
    list_sort(list(DISTINCT policy_set_version) FILTER (policy_set_version IS NOT NULL)) AS policy_set_versions,
    list_sort(list(DISTINCT application_id) FILTER (application_id IS NOT NULL)) AS application_ids,
    list_sort(list(DISTINCT resource_id) FILTER (resource_id IS NOT NULL)) AS resource_ids,
    list_sort(list_distinct(flatten(list(DISTINCT requested_scopes) FILTER (requested_scopes IS NOT NULL)))) AS requested_scopes
FROM denials
GROUP BY subject, policy
HAVING count(*) >= parameter('min_denials')
ORDER BY entity
