-- Token exchanges. An answer that names no scopes gave what was asked for (RFC 6749, 5.1). An empty list names none.
CREATE VIEW credential_issues AS
SELECT
    event_uid, occurred_at, user_id, application_id, application_name, resource_id, outcome, decision, policy_names,
    policy_set_id, policy_set_version, CASE WHEN len(requested_scopes) > 0 THEN requested_scopes END AS requested_scopes,
    grant_type, credential_id, session_id, source_ip, status_detail,
    outcome <> 'failure' AND coalesce(decision, 'allowed') <> 'denied' AS is_issued,
    CASE
        WHEN outcome = 'failure' OR decision = 'denied' THEN NULL
        WHEN len(granted_scopes) > 0 THEN granted_scopes
        WHEN len(requested_scopes) > 0 THEN requested_scopes
    END AS issued_scopes
FROM events
WHERE kind = 'credential_issue';

COMMENT ON VIEW credential_issues IS 'Token exchanges with their decision; issued_scopes is NULL where nothing was issued or no scope is named.';
