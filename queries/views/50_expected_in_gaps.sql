/*
How many calls and credential issues each application, user and resource would have had in the gaps of the period, going
by the same hours of its other weeks. Below one a gap changes nothing that can be said about it.
*/
CREATE VIEW expected_in_gaps AS
WITH gap_hours AS (
    SELECT unnest(generate_series(
        log_gaps.starts_at AT TIME ZONE 'UTC', log_gaps.ends_at AT TIME ZONE 'UTC' - to_hours(1), to_hours(1)
    )) AS hour
    FROM log_gaps
),

gap_weekhours AS (
    SELECT isodow(hour) * 24 + hour(hour) AS hour_of_week, count(*) AS gap_count
    FROM gap_hours, period
    WHERE hour >= starts_at AT TIME ZONE 'UTC' AND hour < ends_at AT TIME ZONE 'UTC'
    GROUP BY ALL
),

weeks AS (
    SELECT greatest(1.0, epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / (7 * 86400.0)) AS week_count
    FROM period
),

hourly AS (
    SELECT occurred_hour AS hour, application_id, user_id, resource_id, call_count, 0 AS issue_count
    FROM hourly_calls
    UNION ALL
    SELECT date_trunc('hour', occurred_at AT TIME ZONE 'UTC') AS hour, application_id, user_id, resource_id, 0 AS call_count, count(*) AS issue_count
    FROM credential_issues
    GROUP BY ALL
)

SELECT
    application_id, user_id, resource_id,
    sum(call_count * gap_count / greatest(1.0, week_count - gap_count)) AS expected_call_count,
    sum(issue_count * gap_count / greatest(1.0, week_count - gap_count)) AS expected_issue_count
FROM hourly, weeks, period, gap_weekhours
WHERE isodow(hourly.hour) * 24 + hour(hourly.hour) = hour_of_week
    AND hourly.hour >= period.starts_at AT TIME ZONE 'UTC' AND hourly.hour < period.ends_at AT TIME ZONE 'UTC'
GROUP BY application_id, user_id, resource_id;

COMMENT ON VIEW expected_in_gaps IS 'Calls and credential issues that would have been in the gaps of the period, going by the same hours of other weeks.';
