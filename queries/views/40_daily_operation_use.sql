/*
Calls by day and operation, told apart by what they prove: a 2xx or 3xx used its scopes; any other failure than 401 and
403 (400, 404, 409, 422, 429, 5xx …) tried to, which justifies reading, never writing; 401 and 403 prove nothing.
*/
CREATE VIEW daily_operation_use AS
SELECT
    occurred_day, application_id, user_id, resource_id, operation,
    count(*) AS call_count,
    count(*) FILTER (http_status BETWEEN 200 AND 399 OR (http_status IS NULL AND outcome = 'success')) AS success_count,
    count(*) FILTER ((http_status >= 400 AND http_status NOT IN (401, 403)) OR (http_status IS NULL AND outcome = 'failure')) AS attempt_count,
    -- Of these the log does not tell how they ended.
    count(*) FILTER (operation IS NOT NULL AND http_status IS NULL AND outcome = 'unknown') AS untold_count,
    -- A path that the API itself does not know says nothing about scopes.
    count(*) FILTER (operation IS NULL AND coalesce(http_status, 0) NOT IN (401, 404)) AS unmatched_count
FROM api_calls
GROUP BY occurred_day, application_id, user_id, resource_id, operation;

COMMENT ON VIEW daily_operation_use IS 'API calls by UTC day, application, user, resource and operation, told apart by what they prove.';
