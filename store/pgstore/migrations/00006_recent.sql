-- +goose Up
-- Alerts of an organization, and of a subject in it, the newest first, and what
-- became of those of one sink.
CREATE INDEX outbox_org ON outbox (org, seq);
CREATE INDEX outbox_subject ON outbox (org, subject, seq);
CREATE INDEX deliveries_sink ON deliveries (sink, seq);
CREATE INDEX deliveries_sink_dead ON deliveries (sink, seq) WHERE state = 3;
