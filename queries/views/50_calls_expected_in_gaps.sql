/*
How many calls each application, user and resource would have made in the gaps of the period, going by the same hours of
its other weeks. Below one call a gap changes nothing that can be said about it.
*/
CREATE VIEW calls_expected_in_gaps AS
WITH gap_hours AS (
    SELECT unnest(generate_series(
        log_gaps.starts_at AT TIME ZONE 'UTC', log_gaps.ends_at AT TIME ZONE 'UTC' - to_hours(1), to_hours(1)
    )) AS hour
    FROM log_gaps, period
    WHERE log_gaps.starts_at >= period.starts_at AND log_gaps.ends_at <= period.ends_at
),

gap_weekhours AS (
    SELECT isodow(hour) * 24 + hour(hour) AS hour_of_week, count(*) AS gap_count
    FROM gap_hours
    GROUP BY ALL
),

weeks AS (
    SELECT greatest(1.0, epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / (7 * 86400.0)) AS week_count
    FROM period
)

SELECT
    application_id, user_id, resource_id,
    sum(call_count * gap_count / greatest(1.0, week_count - gap_count)) AS expected_call_count
FROM hourly_calls, weeks, period, gap_weekhours
WHERE isodow(occurred_hour) * 24 + hour(occurred_hour) = hour_of_week
    AND occurred_hour >= period.starts_at AT TIME ZONE 'UTC' AND occurred_hour < period.ends_at AT TIME ZONE 'UTC'
GROUP BY application_id, user_id, resource_id;

COMMENT ON VIEW calls_expected_in_gaps IS 'Calls that would have been made in the gaps of the period, going by the same hours of other weeks.';
