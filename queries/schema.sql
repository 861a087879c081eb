/*
The tables of audit.duckdb. Instants are TIMESTAMPTZ in UTC; a list column is sorted and has no NULL inside.
Run by `audit_kit.store` on an empty store; the files of views/ follow.
*/
CREATE TABLE events (
    event_uid VARCHAR NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    logged_at TIMESTAMPTZ,
    kind VARCHAR NOT NULL,
    event_name VARCHAR,
    class_uid INTEGER,
    activity_id INTEGER,
    outcome VARCHAR NOT NULL,
    status_code VARCHAR,
    status_detail VARCHAR,
    error_code VARCHAR,
    decision VARCHAR,
    policy_names VARCHAR[],
    policy_set_id VARCHAR,
    policy_set_version VARCHAR,
    user_id VARCHAR,
    user_email VARCHAR,
    user_name VARCHAR,
    actor_user_id VARCHAR,
    application_id VARCHAR,
    application_name VARCHAR,
    delegation_chain VARCHAR[],
    resource_id VARCHAR,
    resource_name VARCHAR,
    entity_id VARCHAR,
    entity_name VARCHAR,
    requested_scopes VARCHAR[],
    granted_scopes VARCHAR[],
    http_method VARCHAR,
    http_path VARCHAR,
    http_status INTEGER,
    operation VARCHAR,
    grant_type VARCHAR,
    grant_id VARCHAR,
    grant_expires_at TIMESTAMPTZ,
    credential_id VARCHAR,
    credential_lifetime_seconds INTEGER,
    session_id VARCHAR,
    correlation_id VARCHAR,
    source_ip VARCHAR,
    user_agent VARCHAR,
    zone_id VARCHAR,
    message VARCHAR,
    source VARCHAR NOT NULL,
    source_file VARCHAR NOT NULL,
    source_row BIGINT NOT NULL,
    batch_id INTEGER NOT NULL
);

COMMENT ON TABLE events IS 'One row an OCSF event that is in scope: flat, typed, with the place it was read from.';
COMMENT ON COLUMN events.event_uid IS 'metadata.uid; for an event without one, a hash of its content and its number among equals in its file.';
COMMENT ON COLUMN events.occurred_at IS 'When it happened, UTC.';
COMMENT ON COLUMN events.logged_at IS 'When the producer wrote it down, UTC.';
COMMENT ON COLUMN events.kind IS 'credential_issue, api_call, sign_in, consent, revocation, secret_read or other.';
COMMENT ON COLUMN events.outcome IS 'Did the operation succeed: success, failure or unknown.';
COMMENT ON COLUMN events.decision IS 'The policy''s answer: allowed, denied, or NULL where the event states none.';
COMMENT ON COLUMN events.policy_names IS 'All policies that decided; empty for a denial means default deny.';
COMMENT ON COLUMN events.user_id IS 'The person on whose behalf; NULL where an application acts for itself.';
COMMENT ON COLUMN events.actor_user_id IS 'Who acted, where that is stated (an administrator who revokes is not the user).';
COMMENT ON COLUMN events.delegation_chain IS 'Identities of the chain in the order of the event, as type:id.';
COMMENT ON COLUMN events.resource_id IS 'The resource in scope, by the id it has in the settings; else what the event says.';
COMMENT ON COLUMN events.requested_scopes IS 'Scopes asked for; on an API call the scopes of the credential it used.';
COMMENT ON COLUMN events.granted_scopes IS 'Scopes granted by a consent or issued by a token exchange; NULL where not told.';
COMMENT ON COLUMN events.operation IS 'The operation of the catalogue that an API call matches, e.g. GET /v2/notes; NULL where none does.';
COMMENT ON COLUMN events.source_row IS 'Row of a Parquet file or line of a JSON file, from 1.';

-- The ledger. For every row: read_count = kept_count + rejected_count + duplicate_count + other_resource_count.
CREATE TABLE ingested_files (
    source VARCHAR NOT NULL,
    source_file VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    modified_ns BIGINT,
    format VARCHAR,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    read_count BIGINT NOT NULL,
    kept_count BIGINT NOT NULL,
    rejected_count BIGINT NOT NULL,
    duplicate_count BIGINT NOT NULL,
    other_resource_count BIGINT NOT NULL,
    first_event_at TIMESTAMPTZ,
    last_event_at TIMESTAMPTZ,
    mapping_hash VARCHAR NOT NULL,
    delivery VARCHAR NOT NULL,
    batch_id INTEGER NOT NULL,
    ingested_at TIMESTAMPTZ NOT NULL
);

COMMENT ON TABLE ingested_files IS 'Every delivered file that was looked at, with what became of its rows.';
COMMENT ON COLUMN ingested_files.status IS 'collected, or skipped for the reason given.';
COMMENT ON COLUMN ingested_files.delivery IS 'The file as it came, kept below the store''s deliveries folder.';

CREATE TABLE rejected_events (
    source VARCHAR NOT NULL,
    source_file VARCHAR NOT NULL,
    source_row BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    raw VARCHAR,
    batch_id INTEGER NOT NULL
);

COMMENT ON TABLE rejected_events IS 'Events that could not be placed, with the reason and the event as it came.';

CREATE TABLE other_resources (
    source VARCHAR NOT NULL,
    source_file VARCHAR NOT NULL,
    resource VARCHAR NOT NULL,
    event_count BIGINT NOT NULL
);

COMMENT ON TABLE other_resources IS 'Events left out because they clearly name a resource that is not in scope, counted by its name.';

-- The catalogue of the resource's API, as it was when the store was last written.
CREATE TABLE operations (
    operation VARCHAR NOT NULL,
    http_method VARCHAR NOT NULL,
    path_template VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    scopes VARCHAR[] NOT NULL
);

COMMENT ON TABLE operations IS 'What can be called; an operation needs all of its scopes.';

CREATE TABLE scopes (
    scope VARCHAR NOT NULL,
    family VARCHAR NOT NULL,
    access VARCHAR NOT NULL,
    is_default BOOLEAN NOT NULL,
    sensitivity VARCHAR NOT NULL,
    sensitivity_reason VARCHAR
);

COMMENT ON TABLE scopes IS 'Scopes of the catalogue with family, access and sensitivity.';

CREATE TABLE store_info (name VARCHAR NOT NULL, value VARCHAR NOT NULL);

COMMENT ON TABLE store_info IS 'layout (of this file), resources in scope, mapping_hash of the last write.';

-- getvariable() of a name that was never set is NULL, and a check would silently find nothing.
CREATE MACRO parameter(name) AS
    CASE WHEN getvariable(name) IS NULL THEN error('parameter ' || name || ' is not set: run SET VARIABLE ' || name || ' = … first') ELSE getvariable(name) END;

-- For the SQL that a finding carries.
CREATE MACRO sql_literal(text) AS '''' || replace(CAST(text AS VARCHAR), '''', '''''') || '''';

CREATE MACRO sql_instant(instant) AS
    'TIMESTAMPTZ ''' || strftime(instant AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%f') || '+00''';
