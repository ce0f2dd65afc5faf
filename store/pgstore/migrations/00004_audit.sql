-- +goose Up
-- The mark of an audit entry ties it to those before it. The row with number 0,
-- which no entry has, says what was cut from the front of the log: through which
-- number and its mark, and in data the seal.
ALTER TABLE audit ADD COLUMN mark text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN through bigint; -- of the row with number 0
