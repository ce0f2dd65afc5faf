// Package usage reports what was spent and asked for over time: series and
// totals of credits and requests per organization, account, member and key,
// folded to hours, days, weeks and months of any time zone, and written as CSV
// or JSON lines.
//
// # When to use it
//
// Use it for charts, invoices and exports. The state of a limit (used, held,
// remaining) is the Ledger's, in package quota, and needs no query here. This
// package reads; nothing in it records. What it reads was written in the same
// step as the charge, so that it always agrees with the quota: over every
// window, a subject's credits are what its limits call used plus overage.
//
// [Read] gives series in memory, [Each] one after another, [Totals] one sum a
// subject. [WriteCSV] and [WriteJSONL] stream what Each gives. [Retain] folds
// old buckets into days.
//
// # Buckets
//
// A bucket is the credits and requests of one subject in one quarter of an hour
// of UTC, with one more for each reason of refusal. A quarter of an hour is what
// the offsets of all zones are made of, so that buckets fold exactly into the
// hours, days, weeks and months of every zone (from 1980 on: before, Monrovia
// and Kiritimati were off by other amounts, and their buckets count where they
// start). A bucket is never split: it counts where it starts, and a range is
// widened to whole buckets.
//
// A request is counted in the bucket of its charge or reservation, whenever it
// is committed. Credits that are refunded leave the bucket that they were
// charged to, so that the past can still move while ids live. Held credits are
// not spent and not shown.
//
// Organizations, accounts, members and keys are counted apart: a key's credits
// are in its account's and its organization's buckets too. Sum siblings, never
// a subject with what stands above it. The history of deleted keys and accounts
// stays, under their ids and in what stood above them.
//
// # Folded days
//
// Buckets older than the host's retention are folded into days of the
// organization's zone. Steps of a day and longer in that zone stay exact; in a
// finer step, or in another zone where a day crosses the edge of a point, a
// folded day counts where it starts and the point is marked Coarse. A range
// that begins within a folded day does not see that day: begin at midnights of
// the organization's zone.
//
// # Limits
//
// A query has at most [MaxSubjects] subjects, or all of a kind, and [MaxPoints]
// points, between the years 1970 and 9899. It is one call of the store, which
// adds the buckets of a point up: a year of hours of one account, or a month of
// days of 10,000, is read at once. Memory grows with the points of the answer
// and never with the number of buckets. Sums are checked; one that would leave int64 is an
// error, never a wrong number. There are no dimensions other than the subject:
// this is accounting, not telemetry.
//
// Functions are safe for concurrent use where the Store is. None reads a clock.
package usage
