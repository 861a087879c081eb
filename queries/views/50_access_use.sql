/*
Use of access, atom by atom: `note` read, `note` write. Read-write covers read; an operation uses all of its scopes.
One row a day × application × user × resource × family × access that was used.
*/
CREATE VIEW access_use AS
SELECT DISTINCT u.occurred_day, u.application_id, u.user_id, u.resource_id, s.family, a.access
FROM daily_operation_use AS u
INNER JOIN (SELECT operation, unnest(scopes) AS scope FROM operations) AS o ON u.operation = o.operation
INNER JOIN scopes AS s ON o.scope = s.scope
INNER JOIN (VALUES ('read'), ('write')) AS a (access) ON a.access = 'read' OR s.access = 'read-write'
WHERE u.success_count > 0 OR (u.attempt_count > 0 AND a.access = 'read');

COMMENT ON VIEW access_use IS 'Which scope families were read and written with, by UTC day, application, user and resource.';
