-- +goose Up
-- Ids and names are bytes: COLLATE "C" everywhere. Instants are microseconds of
-- Unix time; NULL is none. Amounts are millionths of a credit.

-- What one organization's writers agree on. Whoever writes anything of an
-- organization has its row here locked and raises version.
CREATE TABLE orgs (
    org      text COLLATE "C" PRIMARY KEY,
    version  bigint NOT NULL DEFAULT 0,
    settings bigint NOT NULL DEFAULT 0, -- raised by a change that charges depend on
    changed  bigint NOT NULL DEFAULT 0, -- the number of its last change of records
    audit    bigint NOT NULL DEFAULT 0, -- the last audit entry's number
    holds    bigint NOT NULL DEFAULT 0  -- open reservations
) WITH (fillfactor = 50);
CREATE INDEX orgs_changed ON orgs (changed);

-- Numbers that the whole store counts: locked after an organization's row.
CREATE TABLE numbers (
    name text COLLATE "C" PRIMARY KEY,
    n    bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO numbers (name, n) VALUES ('alerts', 0), ('changes', 0);

-- Which batches were committed, so that one whose answer was lost is known.
CREATE TABLE batches (
    token bigint PRIMARY KEY,
    at    timestamptz NOT NULL DEFAULT now(),
    orgs  text NOT NULL DEFAULT ''
);
CREATE INDEX batches_at ON batches (at);

CREATE TABLE records (
    org      text COLLATE "C" NOT NULL,
    kind     smallint NOT NULL, -- 1 organization, 2 account, 3 member, 4 key
    id       text COLLATE "C" NOT NULL,
    parent   text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    disabled boolean NOT NULL,
    created  bigint,
    deleted  bigint,
    expires  bigint,
    labels   jsonb,
    revision bigint NOT NULL,
    data     bytea,
    PRIMARY KEY (org, kind, id)
);
CREATE UNIQUE INDEX records_keys ON records (id) WHERE kind = 4;
CREATE UNIQUE INDEX records_names ON records (org, kind, parent, name)
    WHERE deleted IS NULL AND name <> '' AND kind IN (2, 4);
CREATE INDEX records_children ON records (org, parent, id) WHERE kind = 4;
CREATE INDEX records_orgs ON records (id) WHERE kind = 1;

-- When keys were last used: apart from records, since it is written far more often.
CREATE TABLE uses (
    key  text COLLATE "C" PRIMARY KEY,
    at   bigint NOT NULL,
    addr text NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE audit (
    org  text COLLATE "C" NOT NULL,
    seq  bigint NOT NULL,
    at   bigint,
    data bytea,
    PRIMARY KEY (org, seq)
);

-- Limits (number above 0) and usage buckets (number 0). No column that charges
-- change is in an index, so that their updates stay on their page.
CREATE TABLE counters (
    org      text COLLATE "C" NOT NULL,
    subject  text COLLATE "C" NOT NULL,
    number   bigint NOT NULL,
    series   text COLLATE "C" NOT NULL,
    start    bigint NOT NULL,
    used     bigint NOT NULL,
    held     bigint NOT NULL,
    overage  bigint NOT NULL,
    requests bigint NOT NULL,
    max      bigint NOT NULL,
    ends     bigint NOT NULL, -- 0: never
    rare     text NOT NULL,   -- a ceiling and thresholds that were passed
    PRIMARY KEY (org, subject, number, series, start)
) WITH (fillfactor = 70);
CREATE INDEX counters_ends ON counters (ends) WHERE number > 0 AND ends <> 0;

-- Counters that were opened with what was spent before them.
CREATE TABLE openings (
    org     text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY (org, subject)
);

-- What ids did.
CREATE TABLE receipts (
    org     text COLLATE "C" NOT NULL,
    id      text COLLATE "C" NOT NULL,
    keep    bigint NOT NULL, -- until when it is remembered
    expires bigint,          -- an open reservation's end; NULL: not open
    body    bytea NOT NULL,
    PRIMARY KEY (org, id)
) WITH (fillfactor = 80);
CREATE INDEX receipts_open ON receipts (org, expires) WHERE expires IS NOT NULL;
CREATE INDEX receipts_keep ON receipts (keep);

CREATE TABLE outbox (
    seq       bigint PRIMARY KEY,
    org       text COLLATE "C" NOT NULL,
    subject   text COLLATE "C" NOT NULL,
    limit_name text COLLATE "C" NOT NULL,
    start     bigint NOT NULL,
    ends      bigint NOT NULL,
    threshold bigint NOT NULL,
    max       bigint NOT NULL,
    used      bigint NOT NULL,
    overage   bigint NOT NULL,
    at        bigint NOT NULL
);
CREATE INDEX outbox_at ON outbox (at);
