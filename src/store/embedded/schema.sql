-- Schema 1. Times are microseconds since 1970, UTC; `eta` and `expires` are ISO 8601 as their sender wrote them.

-- One row a task, from its push until the history drops it. STARTED is never written: claims live in memory.
CREATE TABLE task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,

    -- The message.
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    eta TEXT,
    expires TEXT,
    time_limit INTEGER,
    soft_time_limit INTEGER,
    ignore_result INTEGER,
    max_retries INTEGER,
    root_id TEXT,
    parent_id TEXT,
    group_id TEXT,
    group_index INTEGER,
    reply_to TEXT,
    origin TEXT,
    body BLOB NOT NULL,
    envelope TEXT,                             -- of a message from outside: JSON

    -- Its place.
    state TEXT NOT NULL,
    step INTEGER NOT NULL,
    turn INTEGER NOT NULL,                     -- its order among those of its step, given when it becomes ready
    due_at INTEGER,                            -- only while it waits for its time
    queued_at INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,           -- 1: was seen claimed by the timer, so a death would redeliver it
    acknowledged INTEGER NOT NULL DEFAULT 0,   -- 1: never handed out again
    revoked INTEGER NOT NULL DEFAULT 0,        -- 1: revoked while it ran

    -- What came of its latest attempt.
    started_at INTEGER,
    finished_at INTEGER,                       -- only once its state is final
    worker TEXT,
    code TEXT,
    result TEXT,
    error TEXT,
    log TEXT,
    children TEXT
) STRICT;

CREATE INDEX task_ready ON task (queue, step, turn) WHERE state = 'QUEUED';
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX task_finished ON task (finished_at) WHERE finished_at IS NOT NULL;
-- Successes are the many: an entry for each would cost a fifth of the speed, and `task_finished` finds them too.
CREATE INDEX task_not_well ON task (state, seq) WHERE state IN ('FAILURE', 'REVOKED');
CREATE INDEX task_by_name ON task (name, seq);
CREATE INDEX task_marked ON task (seq) WHERE state = 'QUEUED' AND (acknowledged = 1 OR revoked = 1);

-- Not used any more: revocations of tasks that are not known, in case they were pushed later.
CREATE TABLE revocation (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE tick (
    entry TEXT PRIMARY KEY,
    fingerprint TEXT,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE kv (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX kv_expiring ON kv (expires_at) WHERE expires_at IS NOT NULL;

-- `openings`: how often the store was opened, so that receipts of two processes never meet.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('openings', 0);
