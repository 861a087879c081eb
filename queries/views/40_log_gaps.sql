-- Runs of silent hours that each should have held at least 10 events.
CREATE VIEW log_gaps AS
WITH silent AS (
    SELECT hour, expected_event_count, hour - to_hours(CAST(row_number() OVER (ORDER BY hour) AS INTEGER)) AS run
    FROM silent_hours
    WHERE expected_event_count >= 10
)

SELECT
    min(hour) AT TIME ZONE 'UTC' AS starts_at,
    (max(hour) + to_hours(1)) AT TIME ZONE 'UTC' AS ends_at,
    count(*) AS hour_count,
    sum(expected_event_count) AS expected_event_count
FROM silent
GROUP BY run;

COMMENT ON VIEW log_gaps IS 'Silent stretches of the log, [starts_at, ends_at), whose every hour should have held at least 10 events.';
