/*
title       = "The log has no silent hours in which events were to be expected"
severity    = "medium"
needs       = ["events", "log_of_14_days"]
controls    = [
    "soc2:CC2.1", "soc2:CC7.2", "iso27001:A.8.15", "iso27001:A.5.28", "nist80053:AU-5", "nist80053:AU-12",
    "nistcsf:PR.PS-04", "cis:8.2", "pcidss:10.2.1", "pcidss:10.7.2", "hipaa:164.312(b)", "attack:T1562.008",
]
risk        = "What happened in a gap is unknown: misuse can hide in it, and nothing can be called unused across it."
remediation = """\
    Look in the export bucket for deliveries of these hours and collect them; if there are none, ask Keycard \
    support to deliver them again, and find out whether the zone was down or the export was switched off."""
*/
SET VARIABLE min_gap_hours = 1;

SELECT
    'log ' || strftime(g.starts_at AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') || ' UTC' AS entity,
    'No event of any kind for ' || counted(hour_count, 'hour') || ', '
    || strftime(g.starts_at AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M') || ' to ' || strftime(g.ends_at AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M')
    || ' UTC; the same hours of other weeks hold about ' || CAST(round(expected_event_count) AS BIGINT) || ' events' AS reason,
    'medium' AS severity,
    g.starts_at AS first_at,
    g.ends_at AS last_at,
    0 AS event_count,
    CAST([] AS VARCHAR[]) AS event_uids,
    'SELECT * FROM events WHERE occurred_at >= ' || sql_instant(g.starts_at) || ' AND occurred_at < ' || sql_instant(g.ends_at)
    || ' ORDER BY occurred_at, event_uid' AS events_sql,
    hour_count,
    round(expected_event_count, 1) AS expected_event_count,
    strftime((SELECT max(occurred_at) FROM events WHERE occurred_at < g.starts_at) AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S UTC') AS last_event_before,
    strftime((SELECT min(occurred_at) FROM events WHERE occurred_at >= g.ends_at) AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S UTC') AS first_event_after
FROM log_gaps AS g, period
WHERE g.ends_at > period.starts_at AND g.starts_at < period.ends_at
    AND hour_count >= parameter('min_gap_hours')
ORDER BY entity
