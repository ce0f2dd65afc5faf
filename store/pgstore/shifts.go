package pgstore

import (
	"context"
	"database/sql"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"time"
)

// Processes that write to the same organizations work in shifts: one writes several
// batches, each as if it were alone, and then lets the next one. To go from one
// to another takes as long as a batch does, for who comes next has to learn what
// the one before did. A shift is an advisory lock of a transaction that does nothing
// else, so it ends with whoever had it. It is a matter of time alone: what is
// written is guarded by the organization's version as ever, and who gets no shift
// locks the organization's row instead.

const (
	shiftBatches = 4                     // of a shift at most
	shiftTime    = 50 * time.Millisecond // after which no batch of it begins
	shiftIdle    = time.Millisecond      // how long it waits for its next batch
	shiftStill   = time.Second           // after which the server ends one in which nothing happens
	shiftWait    = 5 * time.Second       // how long it is waited for at most, and a quarter of Config.Timeout
	shiftsOff    = 64                    // batches without shifts after one was not got
	shiftConns   = 3                     // of the pool, at least: a shift takes one that charges do not
)

// shifts are those of a Store: one at a time.
type shifts struct {
	mu     sync.Mutex
	now    *shift         // nil: none
	ending sync.WaitGroup // added to under mu

	// Guarded by the Store's busy.
	long, idle, still time.Duration
	most              int // batches of a shift, from 1 to shiftBatches
	off               int // batches that take none; negative: none ever will
}

// shift is one at the organizations whose keys it has.
type shift struct {
	tx      *tx
	keys    []int64 // sorted
	ends    time.Time
	batches int
	resting *time.Timer // between two batches; nil: during one
}

// shiftKey is the advisory lock of an organization. Two of them may share one by
// chance, and wait for each other.
func shiftKey(schema, org string) int64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, "keypurse\x00"+schema+"\x00"+org) // it never fails
	return int64(h.Sum64())
}

// takeShift gives this process a shift at the books of a batch, and brings them to
// where those before it left them. It reports false where there is none to be had.
func (s *Store) takeShift(ctx context.Context, books []*book) bool {
	if s.shifts.off != 0 {
		s.shifts.off = max(s.shifts.off-1, -1)
		return false
	}
	if n := s.db.Stats().MaxOpenConnections; n > 0 && n < shiftConns {
		return false
	}
	keys := make([]int64, len(books))
	for i, b := range books {
		keys[i] = shiftKey(s.cfg.Schema, b.id)
	}
	slices.Sort(keys)
	if s.shifts.more(keys) {
		return true
	}
	s.endShift() // who waits for one has none: so there is no ring of them
	t, err := s.waitForShift(ctx, keys)
	if err == nil {
		s.shifts.begin(t)
		err = s.catchUp(ctx, books)
	}
	if err != nil {
		s.endShift()
		s.shifts.off = shiftsOff
		if !again(err) && ctx.Err() == nil {
			s.shifts.off = -1 // the server knows no such locks
		}
		s.cfg.Logger.Debug("pgstore: no shift", "error", err)
		return false
	}
	return true
}

func (s *Store) waitForShift(ctx context.Context, keys []int64) (*shift, error) {
	t, err := s.tx(ctx, nil)
	if err != nil {
		return nil, err
	}
	var list ints
	for _, k := range keys {
		list.add(k)
	}
	if err := t.each(ctx, s.sql.shift, []any{list.String(), min(shiftWait, s.cfg.Timeout/4).Milliseconds(), s.shifts.still.Milliseconds()}, func(*sql.Rows) error { return nil }); err != nil {
		t.end(ctx, err)
		return nil, err
	}
	return &shift{tx: t, keys: keys, ends: time.Now().Add(s.shifts.long)}, nil
}

// catchUp brings the books to where they are, and fits the length of shifts to how
// many processes work in them: all that the others do in between is to be followed.
func (s *Store) catchUp(ctx context.Context, books []*book) error {
	var known []*book
	var was []int64
	for _, b := range books {
		b.contended--
		if b.version >= 0 {
			known, was = append(known, b), append(was, b.version)
		}
	}
	if len(known) == 0 {
		return nil
	}
	if err := s.states(reader{ctx: ctx, q: s.db.DB}, known, s.sql.state); err != nil {
		return err
	}
	most := int64(0)
	for i, b := range known {
		most = max(most, b.version-was[i])
	}
	switch {
	case most > moveSlots/2:
		s.shifts.most = max(1, s.shifts.most/2)
	case most < moveSlots/4:
		s.shifts.most = min(shiftBatches, s.shifts.most+1)
	}
	return nil
}

func (t *shifts) begin(now *shift) {
	t.mu.Lock()
	t.now = now
	t.mu.Unlock()
}

// more reports whether the shift goes on for a batch at these organizations.
func (t *shifts) more(keys []int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil || !time.Now().Before(t.now.ends) {
		return false
	}
	for _, k := range keys {
		if _, ok := slices.BinarySearch(t.now.keys, k); !ok {
			return false
		}
	}
	if t.now.resting != nil {
		t.now.resting.Stop()
		t.now.resting = nil
	}
	return true
}

// rest is the end of a batch: the shift ends unless the next batch comes soon.
func (s *Store) rest() {
	s.shifts.mu.Lock()
	defer s.shifts.mu.Unlock()
	t := s.shifts.now
	if t == nil {
		return
	}
	if t.batches++; t.batches >= s.shifts.most || !time.Now().Before(t.ends) {
		s.leave()
		return
	}
	t.resting = time.AfterFunc(s.shifts.idle, func() {
		s.shifts.mu.Lock()
		defer s.shifts.mu.Unlock()
		if s.shifts.now == t && t.resting != nil {
			s.leave()
		}
	})
}

// endShift ends the shift there is.
func (s *Store) endShift() {
	s.shifts.mu.Lock()
	defer s.shifts.mu.Unlock()
	if s.shifts.now != nil {
		s.leave()
	}
}

// leave lets the next process in, and does not wait for that. The caller holds mu.
func (s *Store) leave() {
	t := s.shifts.now
	s.shifts.now = nil
	if t.resting != nil {
		t.resting.Stop()
	}
	s.shifts.ending.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
		defer cancel()
		t.tx.end(ctx, nil)
	})
}
