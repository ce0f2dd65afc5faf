-- +goose Up
-- What the last writers of an organization changed, while several processes write
-- to it: who comes next reads that, and not all that it needs anew. A ring of
-- slots, each in parts that fit twice into a page, so that they are written
-- in place. Unlogged: after a crash it is empty, and everything is read anew.
CREATE UNLOGGED TABLE moves (
    org     text COLLATE "C" NOT NULL,
    slot    smallint NOT NULL,
    part    smallint NOT NULL,
    version bigint NOT NULL, -- the organization's, after the change
    parts   smallint NOT NULL,
    body    bytea NOT NULL,
    places  text, -- of part 0: where the counters lie that were written in place
    made    text, -- of part 0: where the others lie, in order
    PRIMARY KEY (org, slot, part)
) WITH (fillfactor = 10, toast_tuple_target = 4096);
