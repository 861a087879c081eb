/*
The period of the audit, one row, half-open: the variables that audit-kit sets, else the newest 90 days of the store.
`log_starts_at` and `log_ends_at` are the first and the last event of the whole store.
*/
CREATE VIEW period AS
SELECT
    coalesce(CAST(getvariable('period_starts_at') AS TIMESTAMPTZ), ends_at - to_hours(90 * 24)) AS starts_at,
    ends_at,
    log_starts_at,
    log_ends_at
FROM (
    SELECT
        coalesce(
            CAST(getvariable('period_ends_at') AS TIMESTAMPTZ),
            date_trunc('day', max(occurred_at) AT TIME ZONE 'UTC' + to_hours(24)) AT TIME ZONE 'UTC'
        ) AS ends_at,
        min(occurred_at) AS log_starts_at,
        max(occurred_at) AS log_ends_at
    FROM events
);

COMMENT ON VIEW period IS 'The period of the audit, one row: [starts_at, ends_at), UTC.';
