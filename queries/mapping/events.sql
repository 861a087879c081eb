/*
Facts → canonical columns. Reads the relation `facts` (one row an event, columns of fields.toml) and gives the
columns of the table `events`, with two more: `other_resource` (set where the event clearly names a resource that
is not in scope, which leaves it out, counted) and `rejected_because` (set where it cannot be placed at all).

Macros made from the settings and the catalogue come with it (audit_kit/mapping): `resource_in_scope(text)` gives
the id of the resource that the text means, or NULL; `resource_on_host(name)` the same for a bare host name;
`operation_of(method, path segments)` the operation of the catalogue; `says_yes` and `says_no` read a decision's free
text; `bare_policy` takes the prefix off a policy's name.

Most rows take the first branch of each CASE; the costly reading stands behind it. (Arguments of coalesce() and
nullif() may be computed for all rows, the later branches of a CASE only for rows that reach them.)
*/
WITH judged AS (
    SELECT
        * EXCLUDE (event_name),
        split_part(event_name, '?', 1) AS event_name,  -- may be `GET /path?query`; queries can carry secrets
        coalesce(class_uid, type_uid // 100) AS class,
        coalesce(activity_id, type_uid % 100) AS activity,
        -- A policy with is_applied = false was looked at and did not decide.
        list_filter(authorizations, lambda a: coalesce(lower(a.is_applied), 'true') NOT IN ('false', '0')) AS deciding,
        list_filter(identity_chain, lambda i: lower(i.type) = 'user')[1] AS chain_user,
        list_filter(identity_chain, lambda i: lower(i.type) IN ('application', 'client', 'agent', 'service'))[1] AS chain_application,
        regexp_extract(status_detail, 'Policy set: *([^ ]+?)\.?( |$)', 1) AS denied_policy_set,
        regexp_extract(status_detail, 'Policy set version: *([^ ]+?)\.?( |$)', 1) AS denied_policy_set_version,
        regexp_extract(status_detail, 'Determining policies: *(.+?)\.? *$', 1) AS denied_policies,
        CASE
            WHEN url_path IS NOT NULL THEN url_path
            WHEN url IS NOT NULL THEN nullif(regexp_extract(url, '^[A-Za-z]+://[^/?#]+([^?#]*)', 1), '')
            WHEN api_operation LIKE '% /%' THEN nullif(regexp_extract(api_operation, '^[A-Za-z]+ (/[^ ]*)', 1), '')
        END AS stated_path,
        CASE
            WHEN http_method IS NOT NULL THEN upper(http_method)
            WHEN api_operation LIKE '% /%' THEN nullif(upper(regexp_extract(api_operation, '^([A-Za-z]+) /', 1)), '')
        END AS stated_method
    FROM facts
),

decided AS (
    SELECT
        *,
        CASE WHEN len(deciding) > 0 THEN list_filter(deciding, lambda a: says_no(a.decision)) END AS denying,
        CASE
            WHEN named_kind IS NOT NULL THEN named_kind
            WHEN grant_type IS NOT NULL THEN 'credential_issue'
            WHEN class = 3002 AND activity = 1 THEN 'sign_in'
            WHEN class = 3005 AND activity = 1 THEN 'consent'
            WHEN class = 3005 AND activity = 2 THEN 'revocation'
            WHEN class = 3003 THEN 'credential_issue'
            WHEN class = 3004 AND activity = 2 THEN 'secret_read'
            WHEN class IN (4002, 6001, 6003) AND stated_method IS NOT NULL AND stated_path IS NOT NULL THEN 'api_call'
            ELSE 'other'
        END AS kind,
        CASE
            WHEN status_id = 1 AND coalesce(class // 1000, 0) <> 2 THEN 'success'  -- in 2xxx (Findings) 1 means New
            WHEN status_id = 2 AND coalesce(class // 1000, 0) <> 2 THEN 'failure'
        END AS stated_outcome,
        CASE
            WHEN http_status BETWEEN 100 AND 599 THEN http_status
            WHEN regexp_full_match(status_code, '[1-5][0-9][0-9]') THEN TRY_CAST(status_code AS BIGINT)
        END AS answer,
        resource_in_scope(resources[1].uid) AS first_resource
    FROM judged
),

placed AS (
    SELECT
        *,
        -- Every way in which the event names its resource; a call is also placed by its own URL.
        CASE WHEN first_resource IS NULL THEN
            list_filter(
                flatten(list_transform(resources, lambda r: [r.uid, r.url, r.hostname, r.name, r.alias]))
                || coalesce(requested_resources, [])
                || [resource_uid, resource_name, resource_alias]
                || CASE WHEN kind = 'api_call' THEN [url, url_hostname] ELSE [] END,
                lambda r: r IS NOT NULL
            )
        END AS resource_refs,
        CASE WHEN first_resource IS NULL THEN
            coalesce(
                list_filter(list_transform(resources, lambda r: r.hostname), lambda h: h IS NOT NULL)[1],
                CASE WHEN kind = 'api_call' THEN url_hostname END
            )
        END AS resource_host
    FROM decided
),

scoped AS (
    SELECT
        *,
        CASE
            WHEN first_resource IS NOT NULL THEN first_resource
            ELSE list_filter(list_transform(resource_refs, lambda r: resource_in_scope(r)), lambda r: r IS NOT NULL)[1]
        END AS named_resource,
        -- Without query, fragment and user part, which can carry secrets; of a call's own URL the origin alone.
        CASE WHEN first_resource IS NULL THEN
            list_transform(
                list_filter(resource_refs, lambda r: r LIKE '%://%'),
                lambda r: regexp_replace(
                    CASE WHEN kind = 'api_call' AND r = url THEN regexp_extract(r, '^[^/]*//[^/?#]*') ELSE split_part(split_part(r, '?', 1), '#', 1) END,
                    '//[^/@]*@', '//'
                )
            )[1]
        END AS clear_url
    FROM placed
),

known AS (
    SELECT
        *,
        CASE
            WHEN named_resource IS NOT NULL THEN named_resource
            WHEN clear_url IS NULL THEN resource_on_host(resource_host)
        END AS known_resource,
        list_filter(list_transform(resources, lambda r: r.name), lambda n: n IS NOT NULL)[1] AS first_resource_name,
        CASE WHEN stated_path LIKE '%?%' OR stated_path LIKE '%#%' THEN regexp_replace(stated_path, '[?#].*$', '') ELSE stated_path END AS http_path
    FROM scoped
),

called AS (
    SELECT
        * EXCLUDE (http_method),
        CASE
            WHEN len(deciding) = 0 THEN CAST([] AS VARCHAR[])
            -- Of a denial the policies that denied are the ones that decided, where the log tells them apart.
            ELSE coalesce(list_sort(list_distinct(list_filter(
                list_transform(
                    CASE WHEN len(denying) > 0 THEN denying ELSE deciding END,
                    lambda a: coalesce(bare_policy(a.policy_name), a.policy_id)
                ),
                lambda p: p IS NOT NULL
            ))), [])
        END AS named_policies,
        stated_method AS http_method,
        -- Clear enough to leave the event out: a URL, a display name or a host name; an opaque id alone is not.
        CASE WHEN known_resource IS NULL THEN coalesce(clear_url, first_resource_name, resource_name, resource_host) END AS clear_resource,
        CASE WHEN kind = 'api_call' AND known_resource = catalog_resource() THEN
            CASE
                WHEN http_path LIKE '%\%%' ESCAPE '\'
                    THEN list_transform(string_split(trim(http_path, '/'), '/'), lambda s: TRY(url_decode(s)))
                ELSE string_split(trim(http_path, '/'), '/')
            END
        END AS path_segments
    FROM known
)

SELECT
    source_file,
    source_row,
    event_uid,
    occurred_at,
    logged_at,
    kind,
    event_name,
    TRY_CAST(class AS INTEGER) AS class_uid,
    TRY_CAST(activity AS INTEGER) AS activity_id,
    CASE
        WHEN stated_outcome IS NOT NULL THEN stated_outcome
        WHEN answer < 400 THEN 'success'
        WHEN answer >= 400 THEN 'failure'
        ELSE 'unknown'
    END AS outcome,
    status_code,
    status_detail,
    error_code,
    CASE
        WHEN len(denying) > 0 THEN 'denied'
        WHEN len(deciding) > 0 AND len(list_filter(deciding, lambda a: says_yes(a.decision))) > 0 THEN 'allowed'
        WHEN says_no(stated_decision) THEN 'denied'
        WHEN says_yes(stated_decision) THEN 'allowed'
        WHEN action_id = 2 THEN 'denied'
        WHEN action_id = 1 THEN 'allowed'
        WHEN disposition_id IN (2, 25, 26) THEN 'denied'
        WHEN disposition_id IN (1, 8) THEN 'allowed'
        WHEN lower(status_code) = 'access_denied' OR lower(error_code) = 'access_denied' OR status_detail ILIKE '%denied by policy%' THEN 'denied'
    END AS decision,
    CASE
        WHEN len(named_policies) > 0 THEN named_policies
        WHEN len(stated_policies) > 0 THEN list_sort(list_distinct(list_transform(stated_policies, lambda p: bare_policy(p))))
        WHEN denied_policies <> '' AND lower(denied_policies) <> 'none'
            THEN list_sort(list_distinct(list_transform(string_split(denied_policies, ','), lambda p: bare_policy(trim(p)))))
        -- The top-level policy is the set in our samples; taken as a policy only where it does not say it is a set.
        WHEN policy_name IS NOT NULL AND coalesce(lower(policy_is_applied), 'true') NOT IN ('false', '0')
            AND coalesce(lower(policy_type), '') NOT LIKE '%set%' AND len(authorizations) = 0
            THEN [bare_policy(policy_name)]
        ELSE named_policies
    END AS policy_names,
    CASE
        WHEN len(deciding) > 0 AND deciding[1].policy_set_id IS NOT NULL THEN deciding[1].policy_set_id
        ELSE coalesce(
            CASE WHEN len(deciding) > 1 THEN list_filter(list_transform(deciding, lambda a: a.policy_set_id), lambda p: p IS NOT NULL)[1] END,
            CASE WHEN policy_type ILIKE '%set%' THEN policy_id END,
            policy_set_id,
            CASE WHEN denied_policy_set <> '' THEN denied_policy_set END
        )
    END AS policy_set_id,
    CASE
        WHEN len(deciding) > 0 AND deciding[1].policy_set_version IS NOT NULL THEN deciding[1].policy_set_version
        ELSE coalesce(
            CASE WHEN len(deciding) > 1 THEN list_filter(list_transform(deciding, lambda a: a.policy_set_version), lambda p: p IS NOT NULL)[1] END,
            CASE WHEN policy_type ILIKE '%set%' THEN policy_version END,
            policy_set_version,
            CASE WHEN denied_policy_set_version <> '' THEN denied_policy_set_version END
        )
    END AS policy_set_version,
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
        CASE WHEN subject_type_id IN (3, 4) THEN subject_id END,
        application_name
    ) AS application_id,
    coalesce(
        application_name,
        chain_application.name,
        CASE WHEN actor_type_id IN (3, 4) THEN actor_name END,
        CASE WHEN subject_type_id IN (3, 4) THEN subject_name END
    ) AS application_name,
    list_transform(
        list_filter(identity_chain, lambda i: i.type IS NOT NULL OR i.id IS NOT NULL),
        lambda i: coalesce(i.type, '?') || ':' || coalesce(i.id, '?')
    ) AS delegation_chain,
    coalesce(known_resource, clear_resource, split_part(split_part(resource_refs[1], '?', 1), '#', 1)) AS resource_id,
    coalesce(first_resource_name, resource_name) AS resource_name,
    entity_id,
    entity_name,
    CASE
        WHEN kind IN ('consent', 'revocation') THEN NULL
        WHEN kind = 'credential_issue' THEN coalesce(requested_scopes, privileges)
        ELSE requested_scopes
    END AS requested_scopes,
    CASE
        WHEN granted_scopes IS NOT NULL THEN granted_scopes
        WHEN kind IN ('consent', 'revocation') THEN coalesce(privileges, requested_scopes)
    END AS granted_scopes,
    http_method,
    http_path,
    CAST(answer AS INTEGER) AS http_status,
    operation_of(http_method, path_segments) AS operation,
    grant_type,
    grant_id,
    grant_expires_at,
    credential_id,
    TRY_CAST(credential_lifetime_seconds AS INTEGER) AS credential_lifetime_seconds,
    session_id,
    correlation_id,
    source_ip,
    user_agent,
    zone_id,
    message,
    clear_resource AS other_resource,
    CASE
        WHEN NOT looks_like_ocsf THEN 'not an OCSF event: it has no class_uid, type_uid, class_name or metadata'
        WHEN occurred_at IS NULL THEN 'no usable time: none of the time fields holds an instant between 1990 and 2100'
    END AS rejected_because
FROM called
