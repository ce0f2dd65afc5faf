-- +goose Up
-- Alerts of other kinds than thresholds.
ALTER TABLE outbox
    ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN id   text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN data text NOT NULL DEFAULT '';

-- Ids of alerts that were posted, so that each comes once.
CREATE TABLE posts (
    org  text COLLATE "C" NOT NULL,
    id   text COLLATE "C" NOT NULL,
    keep bigint NOT NULL, -- until when it is remembered
    PRIMARY KEY (org, id)
);
CREATE INDEX posts_keep ON posts (keep);

-- How far each alert has come to each sink.
CREATE TABLE deliveries (
    seq     bigint NOT NULL,
    sink    text COLLATE "C" NOT NULL,
    state   smallint NOT NULL, -- 1 pending, 2 delivered, 3 dead
    attempt bigint NOT NULL,
    tries   bigint NOT NULL,
    next    bigint NOT NULL,
    at      bigint NOT NULL,
    error   text NOT NULL,
    PRIMARY KEY (seq, sink)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_due ON deliveries (sink, next) WHERE state = 1;
CREATE INDEX deliveries_dead ON deliveries (seq, sink) WHERE state = 3;

-- Which process has the turn of a sweep, until when.
CREATE TABLE turns (
    name text COLLATE "C" PRIMARY KEY,
    ends bigint NOT NULL
);

-- Up to which alert deliveries were put up.
INSERT INTO numbers (name, n) VALUES ('dispatched', 0);
