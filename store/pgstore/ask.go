package pgstore

import (
	"context"
	"database/sql"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/saccount"
)

// A Service that keeps no key in memory looks each up, and many callers at once
// look up many: those that come while others are asked for are asked for
// together, in one round trip.

const (
	askFlights = 2                      // questions under way at once
	askMost    = 256                    // records of one question
	askStalled = 200 * time.Millisecond // after which a question that has no answer yet does not keep the next from being asked
)

// asker asks for records of one kind by their ids.
type asker struct {
	s    *Store
	text string

	mu      sync.Mutex
	waiting []*asked
	flights int
	newest  time.Time // when the last question was asked
	watched bool      // fly will be called when that has stood still for too long
}

// asked is a record that somebody waits for.
type asked struct {
	id     string
	answer chan answer // holds one, so that nobody waits for who has left
}

type answer struct {
	l   saccount.Lineage
	ok  bool
	err error
}

// ask gives the record with an id; ok is false where there is none. What is read
// is read after ask was called. It ends with ctx, and after the Store's Timeout.
func (k *asker) ask(ctx context.Context, id string) (l saccount.Lineage, ok bool, err error) {
	a := &asked{id, make(chan answer, 1)}
	k.mu.Lock()
	k.waiting = append(k.waiting, a)
	k.fly()
	k.mu.Unlock()
	late := waitFor(k.s.cfg.Timeout)
	defer late.give()
	select {
	case got := <-a.answer:
		return got.l, got.ok, timely(ctx, got.err)
	case <-ctx.Done():
		return l, false, &leftError{ctx.Err()}
	case <-late.C:
		return l, false, &leftError{context.DeadlineExceeded}
	}
}

// fly asks for those that wait, if there are not enough questions under way. The
// caller holds mu.
func (k *asker) fly() {
	if len(k.waiting) == 0 {
		return
	}
	if rest := askStalled - time.Since(k.newest); k.flights >= askFlights && rest > 0 {
		if !k.watched {
			k.watched = true
			time.AfterFunc(rest, func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.watched = false
				k.fly()
			})
		}
		return
	}
	k.flights++
	go func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for {
			k.mu.Unlock()
			runtime.Gosched() // whoever was answered just now may ask again, and comes along
			k.mu.Lock()
			if len(k.waiting) == 0 {
				break
			}
			n := min(len(k.waiting), askMost)
			all := slices.Clone(k.waiting[:n])
			k.waiting = slices.Delete(k.waiting, 0, n)
			k.newest = time.Now()
			k.mu.Unlock()
			k.answer(all)
			k.mu.Lock()
		}
		k.flights--
	}()
	k.newest = time.Now()
}

// lateness is a timer that is used again: to watch each look-up with one of its own,
// or with a context, takes longer than to read its answer.
type lateness struct{ *time.Timer }

var latenesses sync.Pool

func waitFor(d time.Duration) lateness {
	if t, ok := latenesses.Get().(*time.Timer); ok {
		t.Reset(d)
		return lateness{t}
	}
	return lateness{time.NewTimer(d)}
}

func (l lateness) give() {
	l.Stop()
	latenesses.Put(l.Timer)
}

// answer asks the server. Nothing of a context ends that but the Store's Timeout,
// and it only where many wait: what watches one takes longer than the answer.
func (k *asker) answer(all []*asked) {
	ids := make([]string, len(all))
	for i, a := range all {
		ids[i] = a.id // one with a line's end in it is not found, whatever its parts are
	}
	ctx := context.Background()
	if k.s.asking.Add(1) > maxAfloat {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.s.cfg.Timeout)
		defer cancel()
	}
	defer k.s.asking.Add(-1)
	found := make([]saccount.Lineage, 0, len(all))
	err := k.s.rowsOf(ctx, k.s.db.DB, k.text, []any{strings.Join(ids, "\n")}, func(rows *sql.Rows) error {
		l, err := scanLineage(rows)
		if err == nil {
			found = append(found, l)
		}
		return err
	})
	for i, a := range all {
		got := answer{err: err}
		if err == nil {
			for j := 0; j < len(found) && !got.ok; j++ { // few at a time, mostly
				if found[j].Record.ID == a.id {
					got.l, got.ok = found[j], true
				}
			}
			if got.ok && slices.ContainsFunc(all[i+1:], func(b *asked) bool { return b.id == a.id }) {
				got.l = own(got.l) // the last one has the original
			}
		}
		a.answer <- got
	}
}

// own is a copy of l that shares nothing with it.
func own(l saccount.Lineage) saccount.Lineage {
	l.Record = l.Record.Clone()
	for _, p := range []**saccount.Record{&l.Account, &l.Org} {
		if *p != nil {
			r := (*p).Clone()
			*p = &r
		}
	}
	return l
}
