package quota

import "time"

// BucketWidth is the width of a usage bucket. Buckets lie on the quarters of an
// hour of UTC, which fold exactly into the days of every zone.
const BucketWidth = 15 * time.Minute

const bucketMicros = int64(BucketWidth / time.Microsecond)

// Series of counters that are not limits. A limit's name never begins with
// one of these marks and is never empty.
const (
	// SeriesUsage is a subject's usage bucket: credits and admitted requests.
	SeriesUsage = ""
	// SeriesRefused goes before a reason: "!limit" counts the requests of a
	// quarter of an hour that a limit refused.
	SeriesRefused = "!"
	// SeriesFolded goes before the series of buckets that were folded into
	// days: "@" is usage, "@!limit" refusals.
	SeriesFolded = "@"
)

// CounterID names a counter within an organization. A reset is never a write:
// the next window simply has another Start, and a period that is set anew
// another Number.
type CounterID struct {
	Subject Subject
	Series  string // the limit's name, or one of the Series constants
	Number  uint32 // of the limit's period, from 1, raised when it is set anew; 0 for buckets
	Start   int64  // the window's start, microseconds of Unix time; 0 where it never resets
}

// Counter is the state of one limit in one window, or of one usage bucket.
// Amounts are millionths of a credit and never negative.
type Counter struct {
	Used     Credits // spent, within what the limit admitted
	Held     Credits // reserved or taken as a block, and not yet settled
	Overage  Credits // spent beyond what there was room for; limits only
	Requests int64   // admitted (or, in a refused series, refused) requests; buckets only
	Max      Credits // the bound that last admitted anything; limits only
	// Ceiling bounds a window that was opened by a new period inside the old
	// one: no more is spent in it than the old limit had left. What is on top
	// of the limit's Max comes on top of it too, so it may lie below 0. It
	// holds where Capped is set.
	Ceiling Credits
	Capped  bool
	Marks   []Mark // thresholds already passed, so that each alerts once
	// Stranded is the part of Held that is a block's whose time was over.
	Stranded Credits
	End      int64 // the window's end, microseconds of Unix time; 0 where it never resets; limits only
}

// Mark is a threshold that was passed in the window that began at Start.
type Mark struct {
	Start     int64
	Threshold Threshold
}

// Opening notes a counter that was opened with what was spent before it
// existed, so that later settlements of that spending reach it too.
type Opening struct {
	Series string
	Number uint32
	Start  int64
	End    int64 // 0 where it never ends
}

// covers reports whether instant at (microseconds) lies in the window.
func covers(start, end, at int64) bool { return at >= start && (end == 0 || at < end) }

// BucketStart is the start of the usage bucket that holds instant at; both in
// microseconds of Unix time.
func BucketStart(at int64) int64 {
	b := at / bucketMicros
	if at%bucketMicros < 0 {
		b--
	}
	return b * bucketMicros
}

// Micros is t as the storage counts time: microseconds of Unix time.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the inverse of Micros, in UTC. Zero microseconds stand for "none"
// wherever a time is optional, and give the zero Time.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
