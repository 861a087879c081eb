/*
Facts → canonical columns. Reads the relation `facts` (one row an event, columns of fields.toml) and gives the
columns of the table `events`, with two more: `other_resource` (set where the event clearly names a resource that
is not in scope, which leaves it out, counted) and `rejected_because` (set where it cannot be placed at all).

Macros made from the settings and the catalogue come with it (audit_kit/mapping.py): `resource_in_scope(text)` gives
the id of the resource that the text means, or NULL; `operation_of(method, path segments)` the operation of the catalogue;
`says_yes` and `says_no` read a decision's free text.
*/
WITH judged AS (
    SELECT
        *,
        coalesce(class_uid, type_uid // 100) AS class,
        coalesce(activity_id, type_uid % 100) AS activity,
        -- A policy with is_applied = false was looked at and did not decide.
        list_filter(authorizations, lambda a: coalesce(lower(a.is_applied), 'true') NOT IN ('false', '0')) AS deciding,
        list_filter(identity_chain, lambda i: lower(i.type) = 'user')[1] AS chain_user,
        list_filter(identity_chain, lambda i: lower(i.type) IN ('application', 'client', 'agent', 'service'))[1] AS chain_application,
        regexp_extract(status_detail, 'Policy set: *([^ ]+?)\.?( |$)', 1) AS denied_policy_set,
        regexp_extract(status_detail, 'Policy set version: *([^ ]+?)\.?( |$)', 1) AS denied_policy_set_version,
        regexp_extract(status_detail, 'Determining policies: *(.+?)\.? *$', 1) AS denied_policies,
        coalesce(url_path, nullif(regexp_extract(url, '^https?://[^/?#]+([^?#]*)', 1), '')) AS stated_path
    FROM facts
),

decided AS (
    SELECT
        *,
        list_transform(deciding, lambda a: a.decision) AS decisions,
        CASE
            WHEN named_kind IS NOT NULL THEN named_kind
            WHEN grant_type IS NOT NULL THEN 'credential_issue'
            WHEN class = 3002 AND activity = 1 THEN 'sign_in'
            WHEN class = 3005 AND activity = 1 THEN 'consent'
            WHEN class = 3005 AND activity = 2 THEN 'revocation'
            WHEN class = 3003 THEN 'credential_issue'
            WHEN class = 3004 AND activity = 2 THEN 'secret_read'
            WHEN class IN (4002, 6001, 6003) AND http_method IS NOT NULL
                AND stated_path IS NOT NULL THEN 'api_call'
            ELSE 'other'
        END AS kind
    FROM judged
),

placed AS (
    SELECT
        *,
        -- Every way in which the event names its resource; a call is also placed by its own URL.
        list_filter(
            flatten([
                flatten(list_transform(resources, lambda r: [r.uid, r.url, r.hostname, r.name, r.alias])),
                [resource_uid, resource_name, resource_alias],
                CASE WHEN kind = 'api_call' THEN [url, url_hostname] END
            ]),
            lambda r: r IS NOT NULL
        ) AS resource_refs
    FROM decided
),

scoped AS (
    SELECT
        *,
        coalesce(
            list_sort(list_distinct(list_filter(list_transform(
                CASE
                    -- Of a denial the policies that denied are the ones that decided, where the log tells them apart.
                    WHEN len(list_filter(decisions, lambda d: says_no(d))) > 0
                        THEN list_filter(deciding, lambda a: says_no(a.decision))
                    ELSE deciding
                END,
                lambda a: coalesce(regexp_replace(a.policy_name, '^.*::', ''), a.policy_id)
            ), lambda p: p IS NOT NULL))),
            []
        ) AS named_policies,
        list_filter(list_transform(resource_refs, lambda r: resource_in_scope(r)), lambda r: r IS NOT NULL)[1] AS known_resource,
        -- Clear enough to leave the event out: a URL, a host name or a display name; an opaque id alone is not.
        coalesce(
            list_filter(resource_refs, lambda r: r LIKE '%://%')[1],
            list_filter(list_transform(resources, lambda r: r.name), lambda r: r IS NOT NULL)[1],
            resource_name,
            list_filter(list_transform(resources, lambda r: r.hostname), lambda r: r IS NOT NULL)[1]
        ) AS clear_resource
    FROM placed
),

called AS (
    SELECT
        * EXCLUDE (http_method),
        upper(coalesce(http_method, nullif(regexp_extract(api_operation, '^([A-Z]+) /', 1), ''))) AS http_method,
        regexp_replace(
            coalesce(stated_path, nullif(regexp_extract(api_operation, '^[A-Z]+ (/[^ ]*)', 1), '')), '[?#].*$', ''
        ) AS http_path,
        CASE WHEN kind = 'api_call' AND known_resource = catalog_resource()
            THEN string_split(url_decode(trim(http_path, '/')), '/') END AS path_segments
    FROM scoped
)

SELECT
    source_file,
    source_row,
    event_uid,
    occurred_at,
    logged_at,
    kind,
    event_name,
    CAST(class AS INTEGER) AS class_uid,
    CAST(activity AS INTEGER) AS activity_id,
    CASE
        WHEN status_id = 1 AND coalesce(class // 1000, 0) <> 2 THEN 'success'  -- in 2xxx (Findings) 1 means New
        WHEN status_id = 2 AND coalesce(class // 1000, 0) <> 2 THEN 'failure'
        WHEN http_status BETWEEN 100 AND 399 THEN 'success'
        WHEN http_status BETWEEN 400 AND 599 THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    status_code,
    status_detail,
    error_code,
    CASE
        WHEN len(list_filter(decisions, lambda d: says_no(d))) > 0 THEN 'denied'
        WHEN len(list_filter(decisions, lambda d: says_yes(d))) > 0 THEN 'allowed'
        WHEN says_no(stated_decision) THEN 'denied'
        WHEN says_yes(stated_decision) THEN 'allowed'
        WHEN action_id = 2 THEN 'denied'
        WHEN action_id = 1 THEN 'allowed'
        WHEN disposition_id IN (2, 25, 26) THEN 'denied'
        WHEN disposition_id IN (1, 8) THEN 'allowed'
        WHEN 'access_denied' IN (lower(status_code), lower(error_code)) OR status_detail ILIKE '%denied by policy%' THEN 'denied'
    END AS decision,
    CASE
        WHEN len(named_policies) > 0 THEN named_policies
        WHEN len(stated_policies) > 0 THEN list_sort(list_distinct(list_transform(stated_policies, lambda p: regexp_replace(p, '^.*::', ''))))
        WHEN denied_policies <> '' AND lower(denied_policies) <> 'none'
            THEN list_sort(list_distinct(list_transform(string_split(denied_policies, ','), lambda p: regexp_replace(trim(p), '^.*::', ''))))
        -- The top-level policy is the set in our samples; taken as a policy only where it does not say it is a set.
        WHEN policy_name IS NOT NULL AND coalesce(lower(policy_is_applied), 'true') NOT IN ('false', '0')
            AND coalesce(lower(policy_type), '') NOT LIKE '%set%' AND coalesce(len(authorizations), 0) = 0
            THEN [regexp_replace(policy_name, '^.*::', '')]
        ELSE CAST([] AS VARCHAR[])
    END AS policy_names,
    coalesce(
        list_filter(list_transform(deciding, lambda a: a.policy_set_id), lambda p: p IS NOT NULL)[1],
        CASE WHEN lower(policy_type) LIKE '%set%' THEN policy_id END,
        policy_set_id,
        nullif(denied_policy_set, '')
    ) AS policy_set_id,
    coalesce(
        list_filter(list_transform(deciding, lambda a: a.policy_set_version), lambda p: p IS NOT NULL)[1],
        CASE WHEN lower(policy_type) LIKE '%set%' THEN policy_version END,
        policy_set_version,
        nullif(denied_policy_set_version, '')
    ) AS policy_set_version,
    CASE
        WHEN subject_id IS NOT NULL AND coalesce(subject_type_id, 1) NOT IN (3, 4) THEN subject_id
        WHEN actor_id IS NOT NULL AND coalesce(actor_type_id, 1) NOT IN (3, 4) THEN actor_id
        ELSE coalesce(chain_user.id, stated_user_id)
    END AS user_id,
    CASE
        WHEN subject_id IS NOT NULL AND coalesce(subject_type_id, 1) NOT IN (3, 4) THEN subject_email
        WHEN actor_id IS NOT NULL AND coalesce(actor_type_id, 1) NOT IN (3, 4) THEN actor_email
        WHEN chain_user.name LIKE '%@%' THEN chain_user.name
    END AS user_email,
    CASE
        WHEN subject_id IS NOT NULL AND coalesce(subject_type_id, 1) NOT IN (3, 4) THEN subject_name
        WHEN actor_id IS NOT NULL AND coalesce(actor_type_id, 1) NOT IN (3, 4) THEN actor_name
        ELSE chain_user.name
    END AS user_name,
    actor_id AS actor_user_id,
    coalesce(
        application_id,
        chain_application.id,
        CASE WHEN actor_type_id IN (3, 4) THEN actor_id END,
        application_name
    ) AS application_id,
    coalesce(
        application_name,
        chain_application.name,
        CASE WHEN actor_type_id IN (3, 4) THEN actor_name END
    ) AS application_name,
    list_transform(identity_chain, lambda i: coalesce(i.type, '?') || ':' || coalesce(i.id, '?')) AS delegation_chain,
    coalesce(known_resource, clear_resource, resource_refs[1]) AS resource_id,
    coalesce(list_filter(list_transform(resources, lambda r: r.name), lambda r: r IS NOT NULL)[1], resource_name) AS resource_name,
    entity_id,
    entity_name,
    CASE
        WHEN kind IN ('consent', 'revocation') THEN NULL
        WHEN kind = 'credential_issue' AND len(requested_scopes) = 0 THEN privileges
        ELSE requested_scopes
    END AS requested_scopes,
    CASE
        WHEN len(granted_scopes) > 0 THEN granted_scopes
        WHEN kind IN ('consent', 'revocation') AND len(privileges) > 0 THEN privileges
        WHEN kind IN ('consent', 'revocation') THEN requested_scopes
    END AS granted_scopes,
    http_method,
    http_path,
    CAST(coalesce(
        CASE WHEN http_status BETWEEN 100 AND 599 THEN http_status END,
        CASE WHEN regexp_matches(status_code, '^[1-5][0-9][0-9]$') THEN TRY_CAST(status_code AS BIGINT) END
    ) AS INTEGER) AS http_status,
    operation_of(http_method, path_segments) AS operation,
    grant_type,
    grant_id,
    grant_expires_at,
    credential_id,
    CAST(credential_lifetime_seconds AS INTEGER) AS credential_lifetime_seconds,
    session_id,
    correlation_id,
    source_ip,
    user_agent,
    zone_id,
    message,
    CASE WHEN known_resource IS NULL THEN clear_resource END AS other_resource,
    CASE
        WHEN NOT looks_like_ocsf THEN 'not an OCSF event: it has no class_uid, type_uid, class_name or metadata'
        WHEN occurred_at IS NULL THEN 'no usable time: none of the time fields holds an instant between 1990 and 2100'
    END AS rejected_because
FROM called
