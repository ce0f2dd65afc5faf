package pgstore

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
)

// contend makes both rivals know of the other.
func (r *rivals) contend() {
	r.t.Helper()
	for i := range 4 {
		r.apply(i%2, r.op(quota.VerbCharge, 1, 1))
	}
	require.Positive(r.t, r.book(0).contended)
	require.Positive(r.t, r.book(1).contended)
}

// keep makes a rival's shift last until its batches are written or somebody ends it;
// still is after how long the server does.
func (r *rivals) keep(who int, still time.Duration) {
	s := r.of[who]
	s.busy <- struct{}{}
	s.shifts.long, s.shifts.idle, s.shifts.still = time.Hour, time.Hour, still
	<-s.busy
}

// shift is the rival's, nil where it has none.
func (r *rivals) shift(who int) *shift {
	s := &r.of[who].shifts
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// locks are how many shifts there are of the test's organization, and how many are
// waited for.
func (r *rivals) locks() (held, awaited int) {
	key := shiftKey(r.of[0].cfg.Schema, "acme")
	require.NoError(r.t, r.of[0].db.QueryRow(`SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = $1`, key).Scan(&held, &awaited))
	return held, awaited
}

func (r *rivals) used() quota.Credits {
	got, err := r.of[1].Peek(ctx, "acme", r.op(quota.VerbCharge, 1, 1).Levels, noon)
	require.NoError(r.t, err)
	return got[1].Used
}

// Where two processes write, each writes a few batches and then lets the other one.
func TestShifts(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	r.apply(0, r.op(quota.VerbCharge, 1, 1))
	assert.Nil(t, r.shift(0), "it is alone")
	r.contend()
	r.keep(0, time.Hour)
	r.apply(0, r.op(quota.VerbCharge, 1, 1))
	mine := r.shift(0)
	require.NotNil(t, mine)
	held, _ := r.locks()
	require.Equal(t, 1, held)

	other := r.op(quota.VerbCharge, 2, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, r.of[1].Apply(ctx, []*quota.Op{other}))
	}()
	require.Eventually(t, func() bool { _, awaited := r.locks(); return awaited == 1 }, patient, time.Millisecond, "the other waits")
	for range shiftBatches - 2 {
		r.apply(0, r.op(quota.VerbCharge, 1, 1))
		require.Same(t, mine, r.shift(0))
		_, awaited := r.locks()
		require.Equal(t, 1, awaited, "the other still waits")
	}
	r.apply(0, r.op(quota.VerbCharge, 1, 1))
	require.Nil(t, r.shift(0), "its batches are written")
	<-done
	assert.Equal(t, quota.Applied, other.Result.Outcome)
	assert.Equal(t, quota.Credits(1+4+shiftBatches+1), r.used())
}

// A shift ends when no batch comes, when the Store closes, and when its batches go to
// organizations that it is not at.
func TestShiftsEnd(t *testing.T) {
	t.Parallel()
	none := func(t *testing.T, r *rivals) {
		require.Eventually(t, func() bool { held, _ := r.locks(); return held == 0 }, patient, time.Millisecond)
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		r := newRivals(t)
		r.contend()
		r.apply(0, r.op(quota.VerbCharge, 1, 1))
		none(t, r)
		assert.Nil(t, r.shift(0))
	})
	t.Run("close", func(t *testing.T) {
		t.Parallel()
		r := newRivals(t)
		r.contend()
		r.keep(1, time.Hour)
		r.apply(1, r.op(quota.VerbCharge, 1, 1))
		require.NotNil(t, r.shift(1))
		require.NoError(t, r.of[1].Close())
		none(t, r)
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		r := newRivals(t)
		r.contend()
		there := func(who int) {
			o := r.op(quota.VerbCharge, 1, 1)
			o.Org = "globex"
			o.Levels[1].Subject = "org:globex"
			r.apply(who, o)
		}
		for i := range 4 {
			there(i % 2)
		}
		r.keep(0, time.Hour)
		r.apply(0, r.op(quota.VerbCharge, 1, 1))
		require.NotNil(t, r.shift(0))
		there(0)
		none(t, r)
		require.NotNil(t, r.shift(0))
		r.apply(1, r.op(quota.VerbCharge, 1, 1))
	})
	t.Run("by the server, where the process stands still", func(t *testing.T) {
		t.Parallel()
		r := newRivals(t)
		r.contend()
		r.keep(0, 200*time.Millisecond)
		r.apply(0, r.op(quota.VerbCharge, 1, 1))
		require.NotNil(t, r.shift(0))
		r.apply(1, r.op(quota.VerbCharge, 1, 1)) // when the server has ended the other's shift
		r.apply(0, r.op(quota.VerbCharge, 1, 1)) // it does not know yet, and is as right as ever
		r.apply(1, r.op(quota.VerbCharge, 1, 1))
		assert.Equal(t, quota.Credits(8), r.used())
	})
}

// Without shifts everything is as exact: where the server has no such locks, and
// where the pool has no connection to spare.
func TestWithoutShifts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Store){
		"a server without them": func(s *Store) { s.sql.shift = `SELECT pg_no_such_lock($1::bigint[], $2::bigint)` },
		"two connections":       func(s *Store) { s.db.SetMaxOpenConns(2) },
		"one connection":        func(s *Store) { s.db.SetMaxOpenConns(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRivals(t)
			for _, s := range r.of {
				change(s)
			}
			var wg sync.WaitGroup
			var admitted [2]int
			for who := range r.of {
				ops := make([]*quota.Op, 600)
				for i := range ops {
					ops[i] = r.op(quota.VerbCharge, who, 1)
				}
				wg.Go(func() {
					for at := 0; at < len(ops); at += 20 {
						if !assert.NoError(t, r.of[who].Apply(ctx, ops[at:at+20])) {
							return
						}
					}
					for _, o := range ops {
						if o.Result.Outcome == quota.Applied {
							admitted[who]++
						}
					}
				})
			}
			wg.Wait()
			assert.Equal(t, 1000, admitted[0]+admitted[1])
			assert.Nil(t, r.shift(0))
			assert.Nil(t, r.shift(1))
		})
	}
}

// Shifts at several organizations are taken in one order, and never one more by who
// has some: crossing batches wait for each other and none for ever.
func TestShiftsDoNotCross(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Config{}) // its own: the server counts for a database
	pgtest.Need(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	const stores, orgs, batches = 4, 6, 40
	var wg sync.WaitGroup
	for who := range stores {
		s := openAt(t, server.DSN(), Config{Timeout: patient})
		wg.Go(func() {
			for i := range batches {
				var ops []*quota.Op
				for k := range orgs {
					if (i+k*who)%3 == 0 {
						continue
					}
					org := fmt.Sprintf("org-%d", (k*(1+2*(who%2))+who)%orgs)
					ops = append(ops, &quota.Op{Verb: quota.VerbCharge, Org: org, ID: fmt.Sprintf("%d-%d-%d", who, i, k), At: noon, Keep: noon + 1e9, Amount: 1,
						Levels: []*quota.Level{{Subject: quota.Subject("org:" + org), Sequence: 1, Bucket: noon}}})
				}
				if !assert.NoError(t, s.Apply(ctx, ops)) {
					return
				}
			}
		})
	}
	wg.Wait()
	db, err := sql.Open("postgres", server.DSN())
	require.NoError(t, err)
	defer db.Close()
	var dead, charged int
	require.NoError(t, db.QueryRow(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&dead))
	assert.Zero(t, dead)
	require.NoError(t, db.QueryRow(`SELECT sum(requests) FROM "`+DefaultSchema+`".counters`).Scan(&charged))
	want := 0
	for who := range stores {
		for i := range batches {
			for k := range orgs {
				if (i+k*who)%3 != 0 {
					want++
				}
			}
		}
	}
	assert.Equal(t, want, charged)
}
