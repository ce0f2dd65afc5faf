-- +goose Up
-- Lists by status: the disabled and the deleted, few among many, are found
-- without going through the others.
CREATE INDEX records_disabled ON records (org, kind, id) WHERE deleted IS NULL AND disabled;
CREATE INDEX records_deleted ON records (org, kind, id) WHERE deleted IS NOT NULL;
