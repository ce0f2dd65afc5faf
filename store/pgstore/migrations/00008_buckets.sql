-- +goose Up
-- A subject's usage bucket is kept beside the counter of a limit that is charged
-- with it, so that a charge writes one row of a subject and not two. When the next
-- bucket takes its place it gets a row of its own, with number 0, as buckets
-- without a limit have from the start. The columns are NULL where none is there.
ALTER TABLE counters
    ADD COLUMN bucket          bigint, -- its start
    ADD COLUMN bucket_used     bigint,
    ADD COLUMN bucket_held     bigint,
    ADD COLUMN bucket_requests bigint,
    ADD COLUMN bucket_rare     text;

-- Every bucket, wherever it is kept.
CREATE VIEW buckets AS
SELECT org, subject, series, start, used, held, requests, rare FROM counters WHERE number = 0
UNION ALL
SELECT org, subject, ''::text COLLATE "C", bucket, bucket_used, bucket_held, bucket_requests, bucket_rare
FROM counters WHERE number > 0 AND bucket IS NOT NULL;
