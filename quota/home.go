package quota

// Home is what a backend notes of where it keeps Rows, if it does: one stored row
// may hold a limit's counter and, beside it, the usage bucket that is counted with
// it. Rows that are kept together share one. A Book never looks at it, and what
// guards the Book guards it; it leaves memory with its Rows.
type Home struct {
	Limit  *Row // the limit that is kept here; nil: none
	Bucket *Row // the bucket that is kept here, beside the limit or alone; nil: none, or not in memory
	// Carries says that a bucket is kept beside the limit, in memory or not: the
	// one that begins at Start, in microseconds of Unix time. Else Start is 0.
	Carries bool
	Start   int64
	Place   uint64 // the stored row's, as the backend numbers them; 0 where that is not known
	Turn    uint64 // the number of the backend's last batch that wrote it; 0: none
}

// Beside are the counters in memory of the Row's subject, itself included, in the
// order of their names. They are good until the next Op, and not to be changed.
func (r *Row) Beside() []*Row { return r.of.rows }

// Carries reports whether the Row is a limit whose window holds all of the usage
// bucket that begins at start, in microseconds of Unix time, so that whatever is
// counted there is counted here.
func (r *Row) Carries(start int64) bool {
	return r.in.number > 0 && r.start <= start && (r.end == 0 || start <= r.end-bucketMicros)
}

// Outlasts reports whether the Row's window ends after that of other; of two that
// never end, neither does.
func (r *Row) Outlasts(other *Row) bool {
	return other.end != 0 && (r.end == 0 || r.end > other.end)
}
