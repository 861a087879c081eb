-- Downstream calls to a resource, of all time.
CREATE VIEW api_calls AS
SELECT
    event_uid, occurred_at, date_trunc('hour', occurred_at AT TIME ZONE 'UTC') AS occurred_hour,
    CAST(occurred_at AT TIME ZONE 'UTC' AS DATE) AS occurred_day,
    user_id, application_id, application_name, resource_id, operation, http_method, http_path, http_status, outcome,
    error_code, status_detail, requested_scopes AS credential_scopes, credential_id, session_id, source_ip
FROM events
WHERE kind = 'api_call';

COMMENT ON VIEW api_calls IS 'Downstream calls; occurred_hour and occurred_day are UTC.';
