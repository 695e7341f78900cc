-- Schema 2: runs of any state are found newest first; deaths, pauses and the code of runs are kept.

-- The many are left out: what is queued is found by `task_ready` and a success by `task_finished`; an entry for each
-- would cost a fifth of the speed.
DROP INDEX task_not_well;
CREATE INDEX task_by_state ON task (state, seq) WHERE state IN ('FAILURE', 'REVOKED', 'SCHEDULED', 'RETRY');

-- With the queue, so that the delayed of each are counted without a look at their rows.
DROP INDEX task_due;
CREATE INDEX task_due ON task (due_at, queue) WHERE due_at IS NOT NULL;
-- Those that were put back for a while: they keep their turn.
CREATE INDEX task_returned ON task (turn) WHERE due_at IS NOT NULL AND turn > 0;

-- A process died while it ran the task (its `seq`).
CREATE TABLE death (
    task INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE paused (
    queue TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE source (
    hash TEXT PRIMARY KEY,
    files TEXT NOT NULL,                       -- JSON: text by path
    size INTEGER NOT NULL,                     -- of `files`, in bytes
    at INTEGER NOT NULL                        -- when it was kept last
) STRICT;
CREATE INDEX source_by_age ON source (at, size);
