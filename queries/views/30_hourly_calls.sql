-- API calls by hour: the series that spikes and gaps are judged on.
CREATE VIEW hourly_calls AS
SELECT
    occurred_hour, application_id, user_id, resource_id,
    count(*) AS call_count,
    count(*) FILTER (http_status = 401) AS unauthorized_count,
    count(*) FILTER (http_status = 403) AS forbidden_count
FROM api_calls
GROUP BY occurred_hour, application_id, user_id, resource_id;

COMMENT ON VIEW hourly_calls IS 'API calls, 401s and 403s by UTC hour, application, user and resource.';
