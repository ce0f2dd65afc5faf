-- +goose Up
-- Kinds of records: 5 management key, found by its id like a key; 6 request,
-- which is dropped when it has expired.
CREATE UNIQUE INDEX records_management ON records (id) WHERE kind = 5;
CREATE INDEX records_requests ON records (expires) WHERE kind = 6;
