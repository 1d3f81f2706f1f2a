-- Each statement is called by the function of its name in statements.py. `(:keys)` stands for as many values as there are.

-- name: load
SELECT key, expires_at, data FROM records WHERE key IN (:keys);

-- name: insert_records
INSERT INTO records
    (rev, kind, created_at, expires_at, live, status, task, signature, root, cause, worker, due_at, parent, data, key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: move_records
UPDATE records SET rev = ?, status = ?, worker = ?, due_at = ?, data = ? WHERE key = ? AND rev = ?;

-- name: end_records
UPDATE records SET rev = ?, status = ?, worker = ?, due_at = ?, live = ?, expires_at = ?, data = ?
WHERE key = ? AND rev = ?;

-- name: change_records
UPDATE records SET
    rev = ?, kind = ?, created_at = ?, expires_at = ?, live = ?, status = ?, task = ?, signature = ?, root = ?,
    cause = ?, worker = ?, due_at = ?, parent = ?, data = ?
WHERE key = ? AND rev = ?;

-- name: delete_records
DELETE FROM records WHERE key = ? AND rev = ?;

-- name: touch_records
UPDATE records SET expires_at = ?1 WHERE key = ?2 AND expires_at < ?1;

-- name: insert_names
INSERT OR IGNORE INTO names (key, name) VALUES (?, ?);

-- name: delete_names
DELETE FROM names WHERE key IN (:keys);

-- name: put_rows
INSERT OR REPLACE INTO outbox (key, run, action, route, task, priority, due_at, deliveries)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: settle_rows
DELETE FROM outbox WHERE key IN (:keys) RETURNING route, given;

-- name: note_removal
INSERT INTO routes (route, removed_given, removed_at) VALUES (?1, ?2, ?3)
ON CONFLICT (route) DO UPDATE SET removed_given = max(removed_given, ?2), removed_at = ?3;

-- name: lanes
-- The priorities that the rows of a route have, each with its earliest due time: a step over the index for each.
WITH RECURSIVE lane (handed, priority) AS (
    SELECT 0, (SELECT max(priority) FROM outbox WHERE route = ?1 AND handed = 0)
    UNION ALL
    SELECT 1, (SELECT max(priority) FROM outbox WHERE route = ?1 AND handed = 1)
    UNION ALL
    SELECT handed, (
        SELECT max(o.priority) FROM outbox AS o
        WHERE o.route = ?1 AND o.handed = lane.handed AND o.priority < lane.priority
    )
    FROM lane WHERE priority IS NOT NULL
)
SELECT handed, priority, (
    SELECT min(o.due_at) FROM outbox AS o
    WHERE o.route = ?1 AND o.handed = lane.handed AND o.priority = lane.priority
)
FROM lane WHERE priority IS NOT NULL;

-- name: due_in_lane
SELECT id, key, run, action, route, task, priority, due_at, deliveries FROM outbox
WHERE route = ? AND handed = ? AND priority = ? AND due_at <= ?
ORDER BY due_at, id;

-- name: due_of_task
SELECT id, key, run, action, route, task, priority, due_at, deliveries FROM outbox
WHERE route = ? AND task = ? AND handed = ? AND priority = ? AND due_at <= ?
ORDER BY due_at, id LIMIT ?;

-- name: next_in_lane
SELECT min(due_at) FROM outbox WHERE route = ? AND handed = ? AND priority = ? AND due_at > ?;

-- name: tasks_of_route
WITH RECURSIVE found (task) AS (
    SELECT min(task) FROM outbox WHERE route = ?1
    UNION ALL
    SELECT (SELECT min(o.task) FROM outbox AS o WHERE o.route = ?1 AND o.task > found.task)
    FROM found WHERE task IS NOT NULL
)
SELECT task FROM found WHERE task IS NOT NULL;

-- name: route_state
SELECT given, removed_given, removed_at FROM routes WHERE route = ?;

-- name: due_again
SELECT id, key, run, action, route, task, priority, due_at, deliveries FROM outbox
WHERE route = ?1 AND handed = 1 AND again_at <= ?2 AND due_at <= ?2 AND (given < ?3 OR ?4 + wait <= ?2)
    AND +priority = ?5
ORDER BY due_at, id LIMIT ?6;

-- name: may_be_given_again
SELECT EXISTS (SELECT 1 FROM outbox WHERE route = ? AND handed = 1 AND again_at <= ?);

-- name: give_rows
UPDATE outbox SET handed = 1, given = ?, deliveries = ?, wait = ?, again_at = ? WHERE id = ?;

-- name: note_given
INSERT INTO routes (route, given) VALUES (?1, ?2) ON CONFLICT (route) DO UPDATE SET given = ?2;

-- name: beat
UPDATE records SET beat = beat + 1 WHERE key = ? AND kind = 'worker';

-- name: beats
SELECT key, beat FROM records WHERE kind = 'worker';

-- name: expired
SELECT r.key, r.expires_at, EXISTS (SELECT 1 FROM names WHERE name = r.key) FROM records AS r
WHERE r.live = 0 AND r.expires_at <= ?1
    AND (r.expires_at, r.key) > (?2, ?3)
    AND NOT EXISTS (SELECT 1 FROM records AS o WHERE o.signature = r.key AND o.live = 1)
    AND NOT EXISTS (SELECT 1 FROM records AS o WHERE o.root = r.key AND o.root IS NOT NULL AND o.live = 1)
    AND NOT EXISTS (SELECT 1 FROM records AS o WHERE o.cause = r.key AND o.cause IS NOT NULL AND o.live = 1)
    AND NOT EXISTS (SELECT 1 FROM records AS o WHERE o.key = r.parent)
ORDER BY r.expires_at, r.key LIMIT ?4;

-- name: keepers
-- Of all that names a record, to any depth: whether something is kept, and until when.
WITH RECURSIVE above (key) AS (
    SELECT key FROM names WHERE name = ?1
    UNION
    SELECT names.key FROM names JOIN above ON names.name = above.key
)
SELECT
    max(
        r.live = 1 OR r.expires_at IS NULL OR r.expires_at > ?2
        OR EXISTS (SELECT 1 FROM records AS o WHERE o.signature = r.key AND o.live = 1)
        OR EXISTS (SELECT 1 FROM records AS o WHERE o.root = r.key AND o.root IS NOT NULL AND o.live = 1)
        OR EXISTS (SELECT 1 FROM records AS o WHERE o.cause = r.key AND o.cause IS NOT NULL AND o.live = 1)
    ),
    max(CASE WHEN r.live = 1 OR r.expires_at > ?2 THEN r.expires_at END)
FROM above JOIN records AS r ON r.key = above.key
WHERE r.key <> ?1;

-- name: purge_records
DELETE FROM records WHERE key IN (:keys);

-- name: query
SELECT key, created_at, expires_at, data FROM records WHERE (:where)
ORDER BY created_at DESC, key DESC LIMIT ?;

-- name: count
SELECT count(*) FROM records WHERE (:where);

-- name: facts
SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM outbox);
