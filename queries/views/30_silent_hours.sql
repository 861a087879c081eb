/*
Hours of the log (all kinds of events) in which nothing happened although something usually does: the expected count is
the median of the same hour of the week, or, with less than three weeks of log, of the same hour of working days or of
weekends. Holidays look like gaps: a person decides.
*/
CREATE VIEW silent_hours AS
WITH counted AS (
    SELECT date_trunc('hour', occurred_at AT TIME ZONE 'UTC') AS hour, count(*) AS event_count
    FROM events
    GROUP BY ALL
),

grid AS (
    SELECT unnest(generate_series(min(hour), max(hour), to_hours(1))) AS hour
    FROM counted
),

dense AS (
    SELECT
        grid.hour, coalesce(event_count, 0) AS event_count, isodow(grid.hour) * 24 + hour(grid.hour) AS hour_of_week,
        (isodow(grid.hour) >= 6) AS is_weekend, hour(grid.hour) AS hour_of_day
    FROM grid
    LEFT JOIN counted ON grid.hour = counted.hour
),

expected AS (
    SELECT
        hour, event_count,
        CASE
            WHEN count(*) OVER (PARTITION BY hour_of_week) >= 3 THEN median(event_count) OVER (PARTITION BY hour_of_week)
            ELSE median(event_count) OVER (PARTITION BY is_weekend, hour_of_day)
        END AS expected_event_count
    FROM dense
)

SELECT hour, expected_event_count
FROM expected
WHERE event_count = 0 AND expected_event_count > 0;

COMMENT ON VIEW silent_hours IS 'UTC hours without any event in which events were to be expected.';
