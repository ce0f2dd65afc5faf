package quota

// Home is what a backend notes of where it keeps Rows, if it does: one stored row
// may hold a limit's counter and, beside it, the usage bucket that is counted with
// it. A Book never looks at it; Rows that leave memory take it along.
type Home struct {
	Limit  *Row // of the Rows in memory, the limit that is kept here; nil: none
	Bucket *Row // the bucket that is kept here, beside the limit or alone; nil: none, or not in memory
	// Carries says that a bucket is kept beside the limit, in memory or not: the
	// one that begins at Start.
	Carries bool
	Start   int64
	Place   uint64 // 0 where that is not known
	Turn    uint64 // when it was last written
}

// Beside are the counters in memory of the Row's subject, itself included, in the
// order of their names. They are good until the next Op, and not to be changed.
func (r *Row) Beside() []*Row { return r.of.rows }

// Carries reports whether the Row is a limit whose window holds all of the usage
// bucket that begins at start, so that whatever is counted there is counted here.
func (r *Row) Carries(start int64) bool {
	return r.in.number > 0 && r.start <= start && (r.end == 0 || start <= r.end-bucketMicros)
}

// Outlasts reports whether the Row's window ends after that of other; of two that
// never end, neither does.
func (r *Row) Outlasts(other *Row) bool {
	return other.end != 0 && (r.end == 0 || r.end > other.end)
}
