CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    rev INTEGER NOT NULL,
    created_at REAL NOT NULL,
    -- The truth about the expiry: touches change it here, and not in the data.
    expires_at REAL,
    live INTEGER NOT NULL,
    status TEXT,
    task TEXT,
    signature TEXT,
    root TEXT,
    cause TEXT,
    worker TEXT,
    due_at REAL,
    beat INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL
);

CREATE INDEX records_newest ON records (kind, created_at);

-- Without `queued` and `succeeded`: the one is short, the other is most of all. Only a running record has a worker.
CREATE INDEX records_status ON records (status, worker, created_at)
    WHERE status IN ('cancelled', 'failed', 'interrupted', 'running', 'scheduled', 'suspended', 'unroutable');

-- Every index that a callback's run stands in is a page more for each commit to write: these three answer both for
-- listings and for the purge, which asks whether something live refers to a record.
CREATE INDEX records_live_signature ON records (signature) WHERE live = 1 AND signature IS NOT NULL;
CREATE INDEX records_root ON records (root, created_at, live) WHERE root IS NOT NULL;
CREATE INDEX records_cause ON records (cause, created_at, live) WHERE cause IS NOT NULL;

CREATE INDEX records_expiry ON records (expires_at, key) WHERE live = 0 AND expires_at IS NOT NULL;

-- Which record keeps which other, beside what the columns say.
CREATE TABLE names (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (key, name)
) WITHOUT ROWID;

CREATE INDEX names_by_name ON names (name, key);

-- Rows of one time are taken in the order of their ids: in which they were put.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    action TEXT NOT NULL,
    route TEXT NOT NULL,
    task TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at REAL NOT NULL,
    deliveries INTEGER NOT NULL,
    -- Whether an engine was given it; then its number among those given to its route, and when it may be given again.
    handed INTEGER NOT NULL DEFAULT 0,
    given INTEGER NOT NULL DEFAULT 0,
    wait REAL NOT NULL DEFAULT 0,
    again_at REAL
);

CREATE INDEX outbox_order ON outbox (route, handed, priority, due_at);
CREATE INDEX outbox_task ON outbox (route, task, handed, priority, due_at);
CREATE INDEX outbox_again ON outbox (route, again_at) WHERE handed = 1;

-- How far the engine behind a route has come with what it was given.
CREATE TABLE routes (
    route TEXT PRIMARY KEY,
    given INTEGER NOT NULL DEFAULT 0,
    removed_given INTEGER NOT NULL DEFAULT 0,
    removed_at REAL
) WITHOUT ROWID;
