-- What a check may need, and whether the period has it: `needs` in a check's header names rows of this view.
CREATE VIEW evidence AS
SELECT 'events' AS need, count(*) AS row_count, 'the log holds no event in the period' AS absent_because
FROM events, period WHERE occurred_at >= starts_at AND occurred_at < ends_at
UNION ALL
SELECT 'api_calls', count(*), 'the log holds no API call in the period: it shows what was issued, not what was done with it'
FROM events, period WHERE kind = 'api_call' AND occurred_at >= starts_at AND occurred_at < ends_at
UNION ALL
SELECT 'credential_issues', count(*), 'the log holds no credential issue in the period'
FROM events, period WHERE kind = 'credential_issue' AND occurred_at >= starts_at AND occurred_at < ends_at
UNION ALL
SELECT 'decisions', count(*), 'no event of the period states a policy decision'
FROM events, period
-- On a call, a decision without a policy is the resource's own answer.
WHERE decision IS NOT NULL AND (kind <> 'api_call' OR len(policy_names) > 0) AND occurred_at >= starts_at AND occurred_at < ends_at
UNION ALL
-- Consents count though they were revoked: that nothing stands is then known.
SELECT 'grants', (SELECT count(*) FROM grants) + count(*), 'no consent and no credential issue in the log shows what users have granted'
FROM events, period WHERE kind = 'consent' AND len(granted_scopes) > 0 AND occurred_at < ends_at
UNION ALL
SELECT
    'log_of_' || needed || '_days', CASE WHEN covered >= needed THEN covered ELSE 0 END,
    'the log covers ' || covered || CASE WHEN covered = 1 THEN ' day' ELSE ' days' END || ' of the period, and ' || needed || ' are needed'
FROM (VALUES (14), (30)) AS n (needed), (
    SELECT coalesce(greatest(0, CAST(round(epoch(least(ends_at, log_ends_at) - greatest(starts_at, log_starts_at)) / 86400.0) AS BIGINT)), 0) AS covered
    FROM period
) AS log;

COMMENT ON VIEW evidence IS 'What checks need and how much of it the period holds.';
