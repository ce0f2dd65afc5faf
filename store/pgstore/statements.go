package pgstore

import (
	"regexp"
	"strconv"
	"strings"
)

// statements are the texts of all that is asked, for one schema.
type statements struct {
	ensure, lock, state, moves                string
	posts                                     [4]string // by turns and tells
	check                                     string
	shift                                     string
	receipts, due, soon, open                 string
	counters, openings, buckets               string
	putAlerts, putOpenings, alertNumber       string
	posted                                    string
	outbox                                    string
	records, names, keyIDs                    string
	putRecords, putAudit, change, wrote       string
	lookup, audit, touch, countKeys           string
	askKeys, askManagers                      string
	ends, entryAt, dropAudit, putCut          string
	usage, foldable, dropBuckets              string
	carried, setDown                          string
	usageFolded, usageTogether, subjects      string
	purgeReceipts, purgeRequests, purgeAlerts string
	windows, dropWindows, bump, purgeBatches  string
	changed, list, listUses, putDays          string
	newPosts, purgePosts                      string
	dispatched, lockDispatched, dispatch      string
	putDeliveries, dueSinks, claim            string
	settle, deliveries, newest, turn          string
	recent, recentOf                          string
}

// alertColumns are in the order of scanAlert, deliveryColumns in that of
// scanDelivery.
const (
	alertColumns    = `x.seq, x.org, x.subject, x.limit_name, x.start, x.ends, x.threshold, x.max, x.used, x.overage, x.at, x.kind, x.id, x.data`
	deliveryColumns = `d.sink, d.state, d.attempt, d.tries, d.next, d.at, d.error, ` + alertColumns
)

// recordColumns are in the order of scanRecord.
const recordColumns = `.org, R.kind, R.id, R.parent, R.name, R.disabled, R.created, R.deleted, R.expires, R.labels::text, R.revision, R.data`

// aboveColumns are those of an account or organization above another record,
// beside what is known of it by that one; in the order of raw.above.
const aboveColumns = `R.name, R.disabled, R.created, R.deleted, R.labels::text, R.revision, R.data`

func above(of string) string { return strings.ReplaceAll(aboveColumns, "R.", of+".") }

func columns(of string) string { return of + strings.ReplaceAll(recordColumns, "R.", of+".") }

// besides keeps what is beside a counter, unless there is something new.
func besides(new string) string {
	columns := []string{"bucket", "bucket_used", "bucket_held", "bucket_requests", "bucket_rare"}
	for i, c := range columns {
		columns[i] = c + " = coalesce(" + new + "." + c + ", c." + c + ")"
	}
	return strings.Join(columns, ", ")
}

// The forms of the statement that writes a batch.
const (
	turns = 1 << iota // buckets give way to the next, or are thought to be new
	tells             // ids are kept, or other processes are told
)

var parameter = regexp.MustCompile(`\$\d+`)

// from counts a text's parameters, which begin at 0, from n on.
func from(n int, text string) string {
	return parameter.ReplaceAllStringFunc(text, func(p string) string {
		i, _ := strconv.Atoi(p[1:])
		return "$" + strconv.Itoa(n+i)
	})
}

var listParameter = regexp.MustCompile(`\$\d+(::\w+\[\])`)

// texts4 writes the statements for a schema, whose name needs no quoting but
// gets it. $s. stands for it.
func texts4(schema string) statements {
	in := func(text string) string { return strings.ReplaceAll(text, "$s.", `"`+schema+`".`) }
	// steady is in for what charges ask: each list is hidden from the planner, which
	// else sees how long it is and plans anew for every batch.
	steady := func(text string) string {
		return in(listParameter.ReplaceAllString(text, `(SELECT $0)$1`))
	}
	// What the batch does is durable before it is answered, whatever the
	// default of the server, the database, the role or the pool. It is never
	// lowered: remote_apply stays.
	const durable = `CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN '' ELSE set_config('synchronous_commit', 'on', true) END`
	lookup := in(`SELECT ` + columns("r") + `, coalesce(u.at, 0), coalesce(u.addr, ''), ` + above("a") + `, ` + above("g") + `, o.settings
FROM $s.records r
LEFT JOIN $s.records a ON r.kind = 4 AND a.org = r.org AND a.kind = 2 AND a.id = r.parent
LEFT JOIN $s.records g ON r.kind > 1 AND g.org = r.org AND g.kind = 1 AND g.id = r.org
LEFT JOIN $s.uses u ON r.kind IN (4, 5) AND u.key = r.id
JOIN $s.orgs o ON o.org = r.org
WHERE `)
	// Each id on its own, planned for one, however many are asked for at once. From
	// an array the server would see how many there are and plan each time anew.
	ask := func(by string) string {
		return `SELECT l.* FROM string_to_table($1, chr(10)) AS q(id) CROSS JOIN LATERAL (` + lookup + by + ` OFFSET 0) AS l`
	}
	// series finds which series a subject q has, by one look into the index each;
	// usage, the first, is not looked for: it may be beside a limit.
	const series = `WITH RECURSIVE s(series) AS (
		SELECT '' COLLATE "C"
		UNION ALL
		SELECT (SELECT c.series FROM $s.counters c WHERE c.org = $1 AND c.subject = q.subject AND c.number = 0 AND c.series > s.series ORDER BY c.series LIMIT 1)
		FROM s WHERE s.series IS NOT NULL
	) SELECT s.series FROM s WHERE s.series IS NOT NULL`
	const folded, inBucket = `max(c.start), sum(c.used), sum(c.requests)`, `width_bucket(c.start, $5::bigint[])`
	// bySeries reads the buckets of a range by subject and series: what lies before
	// the range is not gone through, however long the past is, and nothing is
	// sorted by text.
	bySeries := func(columns, group string) string {
		return in(`SELECT q.subject, s.series, x.* FROM unnest($2::text[]) AS q(subject) CROSS JOIN LATERAL (
	` + series + `
) AS s CROSS JOIN LATERAL (
	SELECT ` + columns + ` FROM $s.buckets c WHERE c.org = $1 AND c.subject = q.subject AND c.series = s.series AND c.start >= $3 AND c.start < $4
	` + group + ` OFFSET 0
) AS x`)
	}
	// alone gives the buckets beside the rows g rows of their own.
	const alone = `INSERT INTO $s.counters (org, subject, number, series, start, used, held, overage, requests, max, ends, rare)
	SELECT g.org, g.subject, 0, '', g.bucket, g.bucket_used, g.bucket_held, 0, g.bucket_requests, 0, 0, g.bucket_rare FROM g WHERE g.bucket IS NOT NULL`
	// A batch is written by one statement, in four forms: what a statement could do and
	// does not takes time too. One that turns gives what is beside limits a row of its
	// own (f) where the next bucket takes its place, and writes nothing of an
	// organization of which a bucket is stored that was thought to be new (a): the
	// batch was decided without having looked. One that tells keeps ids and tells the
	// other processes.
	const absent = `a AS MATERIALIZED (
	SELECT q.i FROM unnest($25::bigint[], $26::text[], $27::bigint[]) AS q(i, subject, start) JOIN g ON g.i = q.i CROSS JOIN LATERAL (
		SELECT FROM $s.counters c WHERE c.org = g.org AND c.subject = q.subject AND c.number = 0 AND c.series = '' AND c.start = q.start
		UNION ALL
		SELECT FROM $s.counters c WHERE c.org = g.org AND c.subject = q.subject AND c.number > 0 AND c.bucket = q.start
		OFFSET 0
	) c
), `
	const moving = `), w AS MATERIALIZED (
	SELECT q.* FROM unnest($24::bigint[]) AS x(n) JOIN q ON q.n = x.n
), f AS (
	INSERT INTO $s.counters (org, subject, number, series, start, used, held, overage, requests, max, ends, rare)
	SELECT w.org, w.subject, 0, '', c.bucket, c.bucket_used, c.bucket_held, 0, c.bucket_requests, 0, 0, c.bucket_rare FROM w CROSS JOIN LATERAL (
		SELECT * FROM $s.counters c WHERE c.org = w.org AND c.subject = w.subject AND c.number = w.number AND c.series = w.series AND c.start = w.start OFFSET 0
	) c WHERE c.bucket <> w.bucket
`
	// told has its parameters from the nth on.
	told := func(n int) string {
		return from(n, `), r AS (
	INSERT INTO $s.receipts (org, id, keep, expires, body)
	SELECT l.org, q.id, q.keep, q.expires, q.body
	FROM unnest($0::bigint[], $1::text[], $2::bigint[], $3::bigint[], $4::bytea[]) AS q(i, id, keep, expires, body) JOIN l ON l.i = q.i
	ON CONFLICT (org, id) DO UPDATE SET keep = excluded.keep, expires = excluded.expires, body = excluded.body
), m AS (
	INSERT INTO $s.moves (org, slot, part, version, parts, body, places, made)
	SELECT l.org, l.version % `+strconv.Itoa(moveSlots)+`, q.part, l.version, q.parts, q.body, p.places, d.made
	FROM unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[]) AS q(i, part, parts, body) JOIN l ON l.i = q.i
	LEFT JOIN p ON p.i = l.i AND q.part = 0 LEFT JOIN d ON d.org = l.org AND q.part = 0
	ON CONFLICT (org, slot, part) DO UPDATE SET version = excluded.version, parts = excluded.parts, body = excluded.body, places = excluded.places, made = excluded.made
`)
	}
	// Every organization's rows are written where its version is the one
	// that they were decided on, and those of others are not. Locked in one
	// order, before anything is made. Organizations of which nothing
	// changes (writes = 0) are only looked at.
	// Counters are written where they lie as far as that is known, which takes
	// a third of the time, and else by their names: nothing hangs on what is
	// said of places. Where they lie then is told to the writer and, beside
	// its moves, to the other processes. What is beside a counter stays unless
	// there is something new; what gives way to that gets its own row (f). One in
	// eight is looked up by its name all the same (k): the server clears a page of
	// dead rows when an index leads to it, and not where a row is asked for by its
	// place.
	post := func(absent, unless, moving, told string) string {
		return steady(`WITH g AS MATERIALIZED (
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS g(org, version, writes, holds, i)
), ` + absent + `l AS MATERIALIZED (
	SELECT g.i, o.org, g.holds, g.version + 1 AS version FROM $s.orgs o JOIN g ON o.org = g.org AND o.version = g.version
	WHERE g.writes = 1` + unless + ` ORDER BY o.org FOR UPDATE OF o
), u AS (
	UPDATE $s.orgs o SET version = l.version, holds = l.holds FROM l WHERE o.org = l.org
), q AS MATERIALIZED (
	SELECT l.org, l.version, q.* FROM unnest($6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::text[])
		WITH ORDINALITY AS q(i, subject, number, series, start, used, held, overage, requests, max, ends, rare, place, bucket, bucket_used, bucket_held, bucket_requests, bucket_rare, n) JOIN l ON l.i = q.i
` + moving + `), t AS (
	UPDATE $s.counters c SET used = q.used, held = q.held, overage = q.overage, requests = q.requests, max = q.max, ends = q.ends, rare = q.rare, ` + besides("q") + `
	FROM q WHERE c.ctid = q.place::tid AND c.org = q.org AND c.subject = q.subject AND c.number = q.number AND c.series = q.series AND c.start = q.start
	RETURNING q.i, q.n, c.ctid
), k AS MATERIALIZED (
	SELECT count(c.used) AS looked FROM q CROSS JOIN LATERAL (
		SELECT c.used FROM $s.counters c WHERE c.org = q.org AND c.subject = q.subject AND c.number = q.number AND c.series = q.series AND c.start = q.start OFFSET 0
	) c WHERE q.place IS NOT NULL AND (q.n + q.version) % 8 = 0
), c AS (
	INSERT INTO $s.counters AS c (org, subject, number, series, start, used, held, overage, requests, max, ends, rare, bucket, bucket_used, bucket_held, bucket_requests, bucket_rare)
	SELECT q.org, q.subject, q.number, q.series, q.start, q.used, q.held, q.overage, q.requests, q.max, q.ends, q.rare, q.bucket, q.bucket_used, q.bucket_held, q.bucket_requests, q.bucket_rare FROM q
	WHERE q.place IS NULL OR q.n NOT IN (SELECT t.n FROM t) ORDER BY q.n
	ON CONFLICT (org, subject, number, series, start) DO UPDATE SET used = excluded.used, held = excluded.held, overage = excluded.overage,
		requests = excluded.requests, max = excluded.max, ends = excluded.ends, rare = excluded.rare, ` + besides("excluded") + `
	RETURNING c.org, c.ctid
), p AS MATERIALIZED (
	SELECT t.i, string_agg(concat(t.n, t.ctid), '') AS places FROM t GROUP BY t.i
), d AS MATERIALIZED (
	SELECT c.org, string_agg(c.ctid::text, '' ORDER BY c.k) AS made FROM (SELECT c.*, row_number() OVER () AS k FROM c) AS c GROUP BY c.org
` + told + `), b AS (
	INSERT INTO $s.batches (token, orgs) SELECT $5::bigint, string_agg(l.i::text, ',') FROM l HAVING count(*) > 0
)
SELECT l.i, ` + durable + `, p.places, d.made FROM l LEFT JOIN p ON p.i = l.i LEFT JOIN d ON d.org = l.org CROSS JOIN k
UNION ALL SELECT g.i, '', NULL, NULL FROM g JOIN $s.orgs o ON o.org = g.org AND o.version = g.version WHERE g.writes = 0`)
	}
	const unless = ` AND g.i NOT IN (SELECT a.i FROM a)`
	return statements{
		ensure: in(`INSERT INTO $s.orgs (org) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT (org) DO NOTHING`),
		// A writer that holds a row and is not heard of any more lets go of it. What
		// is asked under the lock is planned by its form, not anew for each batch's
		// length: then the counters are found by the index and by their places.
		lock: steady(`SELECT o.org, o.version, o.settings, o.holds, o.audit, ` + durable + `, set_config('idle_in_transaction_session_timeout', '10s', true) || set_config('plan_cache_mode', 'force_generic_plan', true)
FROM $s.orgs o WHERE o.org = ANY($1::text[]) ORDER BY o.org FOR UPDATE`),
		// A process that stands still in its shift loses it.
		shift: in(`WITH c AS MATERIALIZED (SELECT set_config('lock_timeout', $2::bigint || 'ms', true), set_config('idle_in_transaction_session_timeout', $3::bigint || 'ms', true))
SELECT pg_advisory_xact_lock(q.lock) FROM c CROSS JOIN unnest($1::bigint[]) AS q(lock)`),
		state: steady(`SELECT o.org, o.version, o.settings, o.holds, o.audit, '', '' FROM $s.orgs o WHERE o.org = ANY($1::text[])`),
		// What the writers since wrote of their changes, one row for a part.
		moves: steady(`SELECT q.i, m.version, m.part, m.parts, m.body, m.places, m.made FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS q(org, version, i)
CROSS JOIN LATERAL (SELECT * FROM $s.moves m WHERE m.org = q.org AND m.slot = q.version % ` + strconv.Itoa(moveSlots) + ` AND m.version = q.version OFFSET 0) m
ORDER BY q.i, m.version, m.part`),
		posts: [4]string{
			0:             post("", "", "", ""),
			turns:         post(absent, unless, moving, ""),
			tells:         post("", "", "", told(24)),
			turns | tells: post(absent, unless, moving, told(28)),
		},
		check: steady(`SELECT g.i FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS g(org, version, i)
JOIN $s.orgs o ON o.org = g.org AND o.version = g.version`),
		receipts: steady(`SELECT q.i, r.id, r.body FROM unnest($1::text[], $2::text[], $3::bigint[]) AS q(org, id, i)
CROSS JOIN LATERAL (SELECT * FROM $s.receipts r WHERE r.org = q.org AND r.id = q.id OFFSET 0) r`),
		due: steady(`SELECT q.i, r.id, r.body FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS q(org, at, i)
JOIN $s.receipts r ON r.org = q.org AND r.expires IS NOT NULL AND r.expires <= q.at`),
		soon: steady(`SELECT q.i, (SELECT min(r.expires) FROM $s.receipts r WHERE r.org = q.org AND r.expires IS NOT NULL AND r.expires > q.at)
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS q(org, at, i)`),
		open: in(`SELECT r.id, r.body FROM $s.receipts r WHERE r.org = $1 AND r.expires IS NOT NULL`),
		// One row in all: what a row costs on its way is more than to read it.
		// A bucket that has no row of its own may be beside a limit.
		counters: steady(`SELECT coalesce(string_agg(concat_ws(' ', q.n, c.ctid, c.number, c.start, c.used, c.held, c.overage, c.requests, c.max, c.ends, '-' || c.rare,
	CASE WHEN c.bucket IS NULL THEN '-' ELSE concat_ws(' ', '+', c.bucket, c.bucket_used, c.bucket_held, c.bucket_requests, '-' || c.bucket_rare) END, c.series), chr(10)), '')
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[]) WITH ORDINALITY AS q(org, subject, number, series, start, n)
CROSS JOIN LATERAL (
	SELECT c.ctid, c.* FROM $s.counters c WHERE c.org = q.org AND c.subject = q.subject AND c.number = q.number AND c.series = q.series AND c.start = q.start
	UNION ALL
	SELECT c.ctid, c.* FROM $s.counters c WHERE q.number = 0 AND q.series = '' AND c.org = q.org AND c.subject = q.subject AND c.number > 0 AND c.bucket = q.start
	OFFSET 0
) c`),
		openings: steady(`SELECT q.i, p.subject, p.body FROM unnest($1::text[], $2::text[], $3::bigint[]) AS q(org, subject, i)
CROSS JOIN LATERAL (SELECT * FROM $s.openings p WHERE p.org = q.org AND p.subject = q.subject OFFSET 0) p`),
		buckets: steady(`SELECT q.i, c.start, c.used, c.held, c.requests, c.rare
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) AS q(org, subject, series, from_, to_, i)
CROSS JOIN LATERAL (SELECT * FROM $s.buckets c WHERE c.org = q.org AND c.subject = q.subject AND c.series = q.series AND c.start >= q.from_ AND c.start < q.to_ OFFSET 0) c
ORDER BY c.start`),
		alertNumber: in(`UPDATE $s.numbers SET n = n + $1::bigint WHERE name = 'alerts' RETURNING n`),
		putAlerts: in(`INSERT INTO $s.outbox (seq, org, subject, limit_name, start, ends, threshold, max, used, overage, at, kind, id, data)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[])`),
		putOpenings: in(`INSERT INTO $s.openings (org, subject, body) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
ON CONFLICT (org, subject) DO UPDATE SET body = excluded.body`),
		posted: steady(`SELECT b.token, b.orgs FROM $s.batches b WHERE b.token = ANY($1::bigint[])`),
		outbox: in(`SELECT ` + alertColumns + ` FROM $s.outbox x WHERE x.seq > $1 ORDER BY x.seq LIMIT $2`),

		records: in(`SELECT ` + columns("r") + `, coalesce(u.at, 0), coalesce(u.addr, '') FROM unnest($2::bigint[], $3::text[]) AS q(kind, id)
JOIN $s.records r ON r.org = $1 AND r.kind = q.kind AND r.id = q.id LEFT JOIN $s.uses u ON r.kind IN (4, 5) AND u.key = r.id`),
		names: in(`SELECT r.kind, r.parent, r.name, r.id FROM unnest($2::bigint[], $3::text[], $4::text[]) AS q(kind, parent, name)
JOIN $s.records r ON r.org = $1 AND r.kind = q.kind AND r.parent = q.parent AND r.name = q.name AND r.deleted IS NULL AND r.name <> '' AND r.kind IN (2, 4)`),
		// Each kind has an index of its own; "kind IN" would go through all records.
		keyIDs: in(`SELECT r.id FROM $s.records r WHERE r.kind = 4 AND r.id = ANY($1::text[])
UNION ALL SELECT r.id FROM $s.records r WHERE r.kind = 5 AND r.id = ANY($1::text[])`),
		putRecords: in(`INSERT INTO $s.records (org, kind, id, parent, name, disabled, created, deleted, expires, labels, revision, data)
SELECT $1, q.kind, q.id, q.parent, q.name, q.disabled = 1, q.created, q.deleted, q.expires, q.labels::jsonb, q.revision, q.data
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bytea[])
	AS q(kind, id, parent, name, disabled, created, deleted, expires, labels, revision, data)
ON CONFLICT (org, kind, id) DO UPDATE SET parent = excluded.parent, name = excluded.name, disabled = excluded.disabled, created = excluded.created,
	deleted = excluded.deleted, expires = excluded.expires, labels = excluded.labels, revision = excluded.revision, data = excluded.data`),
		putAudit: in(`INSERT INTO $s.audit (org, seq, at, data, mark) SELECT $1, q.seq, q.at, q.data, q.mark FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::text[]) AS q(seq, at, data, mark)`),
		ends: in(`SELECT c.through, c.mark, c.data, o.audit, a.mark FROM $s.orgs o
LEFT JOIN $s.audit c ON c.org = o.org AND c.seq = 0
LEFT JOIN $s.audit a ON a.org = o.org AND a.seq = o.audit AND a.seq > 0 WHERE o.org = $1`),
		entryAt:   in(`SELECT seq, at, data, mark FROM $s.audit WHERE org = $1 AND seq = $2 AND seq > 0`),
		dropAudit: in(`DELETE FROM $s.audit WHERE org = $1 AND seq BETWEEN 1 AND $2`),
		putCut: in(`INSERT INTO $s.audit AS a (org, seq, through, mark, data) VALUES ($1, 0, $2, $3, $4)
ON CONFLICT (org, seq) DO UPDATE SET through = excluded.through, mark = excluded.mark, data = excluded.data`),
		change: in(`UPDATE $s.numbers SET n = n + 1 WHERE name = 'changes' RETURNING n`),
		wrote: in(`WITH b AS (INSERT INTO $s.batches (token) VALUES ($5::bigint))
UPDATE $s.orgs SET version = version + 1, settings = settings + $2::bigint, audit = audit + $3::bigint, changed = coalesce($4::bigint, changed) WHERE org = $1`),
		lookup:      lookup,
		askKeys:     ask(byKeyID),
		askManagers: ask(byManageID),
		countKeys: in(`SELECT q.account, least(count(r.id), $3::bigint), count(r.id) > $3::bigint, max(u.at) FILTER (WHERE r.nth <= $3::bigint)
FROM (SELECT DISTINCT unnest($2::text[]) COLLATE "C") AS q(account)
JOIN LATERAL (SELECT r.id, row_number() OVER (ORDER BY r.id) AS nth FROM $s.records r
	WHERE r.org = $1 AND r.parent = q.account AND r.kind = 4 AND r.deleted IS NULL ORDER BY r.id LIMIT $3::bigint + 1) AS r ON true
LEFT JOIN $s.uses u ON u.key = r.id GROUP BY q.account`),
		audit: in(`SELECT seq, at, data, mark FROM $s.audit WHERE org = $1 AND seq > $2 ORDER BY seq LIMIT $3`),
		// Each kind has an index of its own, by id alone. Asked by organization too, a
		// server without statistics may go through all keys of it for each.
		touch: in(`INSERT INTO $s.uses AS u (key, at, addr)
SELECT r.id, q.at, q.addr FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS q(org, key, at, addr)
CROSS JOIN LATERAL (
	SELECT r.org, r.id FROM $s.records r WHERE r.kind = 4 AND r.id = q.key
	UNION ALL SELECT r.org, r.id FROM $s.records r WHERE r.kind = 5 AND r.id = q.key OFFSET 0
) r WHERE r.org = q.org ORDER BY r.id
ON CONFLICT (key) DO UPDATE SET at = excluded.at, addr = excluded.addr WHERE u.at < excluded.at`),
		usage:       bySeries(`c.start, c.used, c.requests`, ``),
		usageFolded: bySeries(folded, `GROUP BY `+inBucket),
		// The same where subjects are few and their buckets many. Those of one time
		// lie beside each other: an OR lets Postgres find all of them in the index
		// first, and read each page of the table once.
		usageTogether: in(`WITH k AS MATERIALIZED (SELECT DISTINCT s.series FROM unnest($2::text[] || $6::text[]) AS q(subject) CROSS JOIN LATERAL (
	` + series + `
) AS s)
SELECT c.subject, c.series, ` + folded + ` FROM $s.buckets c
WHERE c.series = ANY(ARRAY(SELECT series FROM k)) AND c.start >= $3 AND c.start < $4
	AND (c.org = $1 AND c.subject = ANY($2::text[]) OR c.org = $7 AND c.subject = ANY($6::text[]))
GROUP BY c.subject, c.series, ` + inBucket),
		// One look into the index a subject, however many counters it has.
		subjects: in(`WITH RECURSIVE s(subject) AS (
	(SELECT c.subject FROM $s.counters c WHERE c.org = $1 AND c.subject > $2 AND c.subject < $3 ORDER BY c.subject LIMIT 1)
	UNION ALL
	SELECT (SELECT c.subject FROM $s.counters c WHERE c.org = $1 AND c.subject > s.subject AND c.subject < $3 ORDER BY c.subject LIMIT 1)
	FROM s WHERE s.subject IS NOT NULL
) SELECT s.subject FROM s WHERE s.subject IS NOT NULL LIMIT $4`),
		foldable: in(`SELECT c.subject, c.series, c.start, c.used, c.held, c.requests FROM $s.counters c
WHERE c.org = $1 AND c.number = 0 AND c.series NOT LIKE '@%' AND c.start >= $2 AND c.start < $3 AND (c.subject, c.series, c.start) > ($4, $5, $6)
ORDER BY c.subject, c.series, c.start LIMIT $7`),
		putDays: in(`INSERT INTO $s.counters (org, subject, number, series, start, used, held, overage, requests, max, ends, rare)
SELECT $1, q.subject, 0, q.series, q.start, q.used, 0, 0, q.requests, 0, 0, '' FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) AS q(subject, series, start, used, requests)
ON CONFLICT (org, subject, number, series, start) DO UPDATE SET used = excluded.used, requests = excluded.requests`),
		// The page first, and then its last uses: joined as a whole, all of them
		// before a deep page may be read.
		list:     in(`SELECT ` + columns("r") + `, coalesce(u.at, 0), coalesce(u.addr, '') FROM (SELECT * FROM $s.records r WHERE `),
		listUses: in(`) AS r LEFT JOIN $s.uses u ON r.kind IN (4, 5) AND u.key = r.id ORDER BY `),
		dropBuckets: in(`DELETE FROM $s.counters c USING unnest($2::text[], $3::text[], $4::bigint[]) AS q(subject, series, start)
WHERE c.org = $1 AND c.subject = q.subject AND c.number = 0 AND c.series = q.series AND c.start = q.start`),
		purgeReceipts: in(`DELETE FROM $s.receipts r USING (SELECT org, id FROM $s.receipts WHERE keep <= $1 AND expires IS NULL LIMIT $2) AS q
WHERE r.org = q.org AND r.id = q.id AND r.keep <= $1 AND r.expires IS NULL`),
		purgeRequests: in(`DELETE FROM $s.records r USING (SELECT org, id FROM $s.records WHERE kind = 6 AND expires <= $1 ORDER BY expires LIMIT $2) AS q
WHERE r.org = q.org AND r.kind = 6 AND r.id = q.id AND r.expires <= $1`),
		// The deliveries go first: a claim joins both, and finds neither.
		purgeAlerts: in(`WITH g AS MATERIALIZED (SELECT seq FROM $s.outbox WHERE at < $1 ORDER BY seq LIMIT $2),
d AS (DELETE FROM $s.deliveries d USING g WHERE d.seq = g.seq)
DELETE FROM $s.outbox x USING g WHERE x.seq = g.seq`),
		newPosts: in(`INSERT INTO $s.posts (org, id, keep) SELECT $1, q.id, q.keep FROM unnest($2::text[], $3::bigint[]) AS q(id, keep)
ON CONFLICT (org, id) DO NOTHING RETURNING id`),
		purgePosts:     in(`DELETE FROM $s.posts p USING (SELECT org, id FROM $s.posts WHERE keep <= $1 LIMIT $2) AS q WHERE p.org = q.org AND p.id = q.id`),
		dispatched:     in(`SELECT n FROM $s.numbers WHERE name = 'dispatched'`),
		lockDispatched: in(`SELECT n, ` + durable + ` FROM $s.numbers WHERE name = 'dispatched' FOR UPDATE`),
		dispatch:       in(`UPDATE $s.numbers SET n = $1 WHERE name = 'dispatched'`),
		putDeliveries: in(`INSERT INTO $s.deliveries (seq, sink, state, attempt, tries, next, at, error)
SELECT q.seq, q.sink, q.state, 0, 0, q.next, q.at, '' FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS q(seq, sink, state, next, at)
JOIN $s.outbox x ON x.seq = q.seq ON CONFLICT (seq, sink) DO NOTHING`),
		// One look into the index for each sink, however much is due of it.
		dueSinks: in(`WITH RECURSIVE s AS (
	(SELECT d.sink, d.next FROM $s.deliveries d WHERE d.state = 1 AND d.sink > $2 ORDER BY d.sink, d.next LIMIT 1)
	UNION ALL
	SELECT n.sink, n.next FROM s, LATERAL (SELECT d.sink, d.next FROM $s.deliveries d WHERE d.state = 1 AND d.sink > s.sink ORDER BY d.sink, d.next LIMIT 1) AS n
)
SELECT sink FROM s WHERE next <= $1 LIMIT $3`),
		claim: in(`WITH c AS MATERIALIZED (
	SELECT d.seq FROM $s.deliveries d WHERE d.sink = $1 AND d.state = 1 AND d.next <= $2 ORDER BY d.next LIMIT $4 FOR UPDATE SKIP LOCKED
), u AS (
	UPDATE $s.deliveries d SET attempt = d.attempt + 1, tries = d.tries + 1, next = $3 FROM c WHERE d.sink = $1 AND d.seq = c.seq
	RETURNING d.*
)
SELECT ` + deliveryColumns + ` FROM u d JOIN $s.outbox x ON x.seq = d.seq`),
		settle: in(`UPDATE $s.deliveries d SET state = q.state, tries = q.tries, next = q.next, at = q.at, error = q.error
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[]) AS q(seq, sink, attempt, state, tries, next, at, error)
WHERE d.seq = q.seq AND d.sink = q.sink AND d.attempt = q.attempt`),
		deliveries: in(`SELECT ` + deliveryColumns + ` FROM $s.deliveries d JOIN $s.outbox x ON x.seq = d.seq
WHERE (d.seq, d.sink) > ($1, $2)`),
		newest: in(`SELECT ` + deliveryColumns + ` FROM $s.deliveries d JOIN $s.outbox x ON x.seq = d.seq
WHERE d.seq < $1 AND d.sink = $2`),
		recent: in(`SELECT ` + alertColumns + ` FROM $s.outbox x WHERE x.org = $1 AND x.seq < $2 ORDER BY x.seq DESC LIMIT $3`),
		// One look into the index for each subject, however much there is of others.
		recentOf: in(`SELECT ` + alertColumns + ` FROM unnest($4::text[]) AS q(subject),
LATERAL (SELECT * FROM $s.outbox o WHERE o.org = $1 AND o.subject = q.subject AND o.seq < $2 ORDER BY o.seq DESC LIMIT $3) AS x ORDER BY x.seq DESC LIMIT $3`),
		turn: in(`INSERT INTO $s.turns AS t (name, ends) VALUES ($1, $3) ON CONFLICT (name) DO UPDATE SET ends = excluded.ends
WHERE t.ends <= $2 OR t.ends - $2 > 2 * (excluded.ends - $2)`),
		windows: in(`SELECT c.org, c.subject, c.number, c.series, c.start FROM $s.counters c
WHERE c.number > 0 AND c.ends <> 0 AND c.ends <= $1 AND c.held = 0 LIMIT $2`),
		dropWindows: in(`WITH g AS MATERIALIZED (
	SELECT c.* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[]) AS q(org, subject, number, series, start)
	JOIN $s.counters c ON c.org = q.org AND c.subject = q.subject AND c.number = q.number AND c.series = q.series AND c.start = q.start WHERE c.held = 0
), f AS (` + alone + `)
DELETE FROM $s.counters c USING g WHERE c.org = g.org AND c.subject = g.subject AND c.number = g.number AND c.series = g.series AND c.start = g.start`),
		carried: in(`SELECT c.subject, c.number, c.series, c.start FROM $s.counters c WHERE c.org = $1 AND c.number > 0 AND c.bucket >= $2 AND c.bucket < $3 LIMIT $4`),
		setDown: in(`WITH g AS MATERIALIZED (
	SELECT c.* FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[]) AS q(subject, number, series, start)
	JOIN $s.counters c ON c.org = $1 AND c.subject = q.subject AND c.number = q.number AND c.series = q.series AND c.start = q.start WHERE c.bucket >= $6 AND c.bucket < $7
), f AS (` + alone + `)
UPDATE $s.counters c SET bucket = NULL, bucket_used = NULL, bucket_held = NULL, bucket_requests = NULL, bucket_rare = NULL
FROM g WHERE c.org = g.org AND c.subject = g.subject AND c.number = g.number AND c.series = g.series AND c.start = g.start`),
		bump:         in(`UPDATE $s.orgs SET version = version + 1 WHERE org = ANY($1::text[])`),
		purgeBatches: in(`DELETE FROM $s.batches WHERE token IN (SELECT token FROM $s.batches WHERE at < now() - interval '1 hour' LIMIT 10000)`),
		changed:      in(`SELECT n, (SELECT coalesce(json_agg(o.org), '[]')::text FROM $s.orgs o WHERE o.changed > $1 AND $1 > 0) FROM $s.numbers WHERE name = 'changes'`),
	}
}

// within are the statements that run in transactions: they are prepared before,
// since there they would need another connection.
func (t *statements) within() []string {
	return []string{
		t.posts[0], t.posts[turns], t.posts[tells], t.posts[turns|tells],
		t.lock, t.shift, t.state, t.moves, t.check, t.receipts, t.due, t.soon, t.counters, t.openings, t.buckets, t.putAlerts, t.putOpenings,
		t.alertNumber, t.posted, t.records, t.names, t.keyIDs, t.putRecords, t.putAudit, t.change, t.wrote,
		t.newPosts, t.lockDispatched, t.dispatch, t.putDeliveries,
		t.ends, t.entryAt, t.dropAudit, t.putCut,
	}
}
