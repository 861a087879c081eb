/*
title       = "API calls are not suddenly answered with 403 Forbidden"
severity    = "high"
needs       = ["api_calls"]
controls    = [
    "soc2:CC6.1", "soc2:CC7.2", "iso27001:A.8.3", "iso27001:A.8.16", "nist80053:AC-3", "nist80053:AU-6",
    "cis:8.11", "pcidss:7.3.2", "pcidss:10.2.1.4", "hipaa:164.312(b)", "owaspnhi:NHI5:2025", "attack:T1526",
]
risk        = "An application lacks a scope that it needs, or somebody feels out what is allowed."
remediation = """\
    Check that the scopes in the Attio integration settings match those in the Keycard Console; if they do and \
    the calls are not rightful, look at who made them."""
rows        = "series"
*/
SET VARIABLE baseline_days = 28;
SET VARIABLE min_calls = 5;
SET VARIABLE min_failures = 5;
SET VARIABLE min_excess = 5;
SET VARIABLE min_ratio = 3;
SET VARIABLE max_q = 0.01;

WITH calls AS (
    SELECT occurred_hour AS hour, application_id, user_id, resource_id, call_count, forbidden_count AS failure_count
    FROM hourly_calls, period
    WHERE occurred_hour >= period.starts_at AT TIME ZONE 'UTC' - to_hours(24 * parameter('baseline_days'))
        AND occurred_hour < period.ends_at AT TIME ZONE 'UTC'
),

failed_operations AS (
    SELECT application_id, coalesce(operation, http_method || ' ' || http_path, 'unknown') AS operation, occurred_hour AS hour, count(*) AS failure_count
    FROM api_calls, period
    WHERE http_status = 403 AND occurred_at >= starts_at AND occurred_at < ends_at
    GROUP BY ALL
),

series AS (
    SELECT 'application' AS dimension, application_id AS entity, NULL AS counterpart, hour, sum(call_count) AS call_count, sum(failure_count) AS failure_count
    FROM calls WHERE application_id IS NOT NULL GROUP BY application_id, hour
    UNION ALL
    SELECT 'user', user_id, NULL, hour, sum(call_count), sum(failure_count)
    FROM calls WHERE user_id IS NOT NULL GROUP BY user_id, hour
    UNION ALL
    SELECT 'resource', resource_id, NULL, hour, sum(call_count), sum(failure_count)
    FROM calls WHERE resource_id IS NOT NULL GROUP BY resource_id, hour
    UNION ALL
    -- Which failures of one are failures of the other: so that one incident is one finding.
    SELECT 'application × user', application_id, user_id, hour, sum(call_count), sum(failure_count)
    FROM calls WHERE failure_count > 0 GROUP BY application_id, user_id, hour
    UNION ALL
    SELECT 'application × resource', application_id, resource_id, hour, sum(call_count), sum(failure_count)
    FROM calls WHERE failure_count > 0 GROUP BY application_id, resource_id, hour
    UNION ALL
    SELECT 'application × operation', application_id, operation, hour, failure_count, failure_count
    FROM failed_operations
),

names AS (
    SELECT application_id AS entity, max(application_name) AS entity_name
    FROM api_calls
    GROUP BY application_id
)

SELECT
    series.dimension, series.entity, names.entity_name, series.counterpart, series.hour,
    CAST(series.call_count AS BIGINT) AS call_count, CAST(series.failure_count AS BIGINT) AS failure_count,
    starts_at AT TIME ZONE 'UTC' AS period_starts_at, ends_at AT TIME ZONE 'UTC' AS period_ends_at,
    log_starts_at AT TIME ZONE 'UTC' AS log_starts_at,
    CAST(parameter('baseline_days') AS BIGINT) AS baseline_days, CAST(parameter('min_calls') AS BIGINT) AS min_calls,
    CAST(parameter('min_failures') AS BIGINT) AS min_failures, CAST(parameter('min_excess') AS DOUBLE) AS min_excess,
    CAST(parameter('min_ratio') AS DOUBLE) AS min_ratio, CAST(parameter('max_q') AS DOUBLE) AS max_q
FROM series
CROSS JOIN period
LEFT JOIN names ON series.dimension = 'application' AND series.entity = names.entity
ORDER BY series.dimension, series.entity, series.counterpart, series.hour
