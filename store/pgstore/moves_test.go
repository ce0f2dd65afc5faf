package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
)

// rivals are two Stores that charge one organization in turn, as two processes do.
type rivals struct {
	t  *testing.T
	of [2]*Store
	n  int
}

func newRivals(t *testing.T) *rivals {
	dsn, schema := pgtest.Schema(t)
	r := &rivals{t: t}
	for i := range r.of {
		r.of[i] = openAt(t, dsn, Config{Schema: schema, Timeout: patient})
	}
	return r
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro()

// op is one on key:k and the organization, each with a limit of 1,000.
func (r *rivals) op(verb quota.Verb, k int, amount quota.Credits) *quota.Op {
	r.n++
	o := &quota.Op{Verb: verb, Org: "acme", ID: fmt.Sprintf("op-%d", r.n), At: noon, Keep: noon + 1e9, Amount: amount, Caller: quota.NewSubject(quota.KindKey, fmt.Sprint(k))}
	for _, sub := range []quota.Subject{o.Caller, "org:acme"} {
		o.Levels = append(o.Levels, &quota.Level{Subject: sub, Sequence: 1, Bucket: noon, Limits: []quota.Entry{{Limit: "month", Number: 1, Max: 1000, Start: noon, End: noon + 1e12}}})
	}
	return o
}

func (r *rivals) apply(who int, ops ...*quota.Op) {
	r.t.Helper()
	require.NoError(r.t, r.of[who].Apply(ctx, ops))
	for _, o := range ops {
		require.NoError(r.t, o.Result.Err)
		require.Equal(r.t, quota.Applied, o.Result.Outcome)
	}
}

func (r *rivals) book(who int) *book { return r.of[who].books["acme"] }

func used(k int) quota.CounterID {
	return quota.CounterID{Subject: quota.NewSubject(quota.KindKey, fmt.Sprint(k)), Series: "month", Number: 1, Start: noon}
}

var orgUsed = quota.CounterID{Subject: "org:acme", Series: "month", Number: 1, Start: noon}

// What a process has in memory it keeps where another one wrote in between: it
// takes over what that one changed, places included.
func TestOthersAreFollowed(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	r.apply(0, r.op(quota.VerbCharge, 1, 5), r.op(quota.VerbCharge, 2, 5))
	r.apply(1, r.op(quota.VerbCharge, 1, 7)) // its first: it knows no other yet
	r.apply(0, r.op(quota.VerbCharge, 1, 1)) // finds it moved, reads anew, and tells
	r.apply(1, r.op(quota.VerbCharge, 3, 1)) // finds it moved as well, follows what was told
	r.apply(0, r.op(quota.VerbCharge, 4, 1))

	mine := r.book(0).Row(used(1))
	require.NotNil(t, mine)
	for range 3 {
		r.apply(1, r.op(quota.VerbCharge, 1, 10), r.op(quota.VerbCharge, 5, 1))
	}
	r.apply(0, r.op(quota.VerbCharge, 4, 1))
	assert.Same(t, mine, r.book(0).Row(used(1)), "the book was not emptied")
	assert.Equal(t, quota.Credits(43), mine.Counter().Used)
	for _, id := range []quota.CounterID{used(1), used(5), orgUsed} {
		row := r.book(0).Row(id)
		require.NotNil(t, row, "%v", id)
		var at string
		require.NoError(t, r.of[0].db.QueryRow(`SELECT ctid::text FROM "`+r.of[0].cfg.Schema+`".counters WHERE subject = $1 AND number = 1`, string(id.Subject)).Scan(&at))
		assert.Equal(t, at, placeText(row.Home.Place), "where %s lies", id.Subject)
	}
}

// What is missing or cannot be read of what others told is read anew.
func TestWhatIsNotToldIsReadAnew(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"all gone, as after a crash of the server": `DELETE FROM moves`,
		"one version missing":                      `DELETE FROM moves WHERE version = (SELECT max(version) - 1 FROM moves)`,
		"a part missing":                           `DELETE FROM moves WHERE part = 0`,
		"a body damaged":                           `UPDATE moves SET body = substr(body, 1, length(body) - 1)`,
		"a body of another version":                `UPDATE moves SET body = '\x02'::bytea`,
		"places damaged":                           `UPDATE moves SET places = '1(0', made = '(0,0)'`,
		"places of others":                         `UPDATE moves SET places = '1(0,1)2(0,1)3(0,2)4(0,3)', made = '(0,1)(0,2)'`,
		"the counters elsewhere":                   `CREATE TABLE x AS SELECT * FROM counters; DELETE FROM counters; INSERT INTO counters SELECT * FROM x ORDER BY used DESC`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRivals(t)
			for i := range 6 {
				r.apply(i%2, r.op(quota.VerbCharge, 1, 1), r.op(quota.VerbCharge, 2, 1))
			}
			r.apply(1, r.op(quota.VerbCharge, 1, 1))
			tx, err := r.of[0].db.Begin()
			require.NoError(t, err)
			_, err = tx.Exec(`SET LOCAL search_path = "` + r.of[0].cfg.Schema + `"`)
			require.NoError(t, err)
			_, err = tx.Exec(spoil)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			for i := range 20 {
				r.apply(i%2, r.op(quota.VerbCharge, 1, 1), r.op(quota.VerbCharge, 3, 1))
			}
			got, err := r.of[1].Peek(ctx, "acme", r.op(quota.VerbCharge, 1, 1).Levels, noon)
			require.NoError(t, err)
			require.Len(t, got, 2)
			assert.Equal(t, quota.Credits(27), got[0].Used)
			assert.Equal(t, quota.Credits(53), got[1].Used)
			var rows int
			require.NoError(t, r.of[0].db.QueryRow(`SELECT count(*) FROM "`+r.of[0].cfg.Schema+`".counters`).Scan(&rows))
			assert.Equal(t, 4, rows, "a limit's, with the bucket beside it, of three keys and the organization")
		})
	}
}

// A reservation that is in one process's memory may be settled in another: from
// then on the first knows, and what it held is free.
func TestReservationsAreFollowed(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	for i := range 4 {
		r.apply(i%2, r.op(quota.VerbCharge, 1, 1))
	}
	reserve := func(amount quota.Credits) *quota.Op {
		o := r.op(quota.VerbReserve, 1, amount)
		o.TTL = 1e9
		return o
	}
	one, two := reserve(100), reserve(200)
	r.apply(0, one)
	r.apply(1, two)
	r.apply(0, r.op(quota.VerbCharge, 2, 1))
	require.True(t, r.book(0).Holds(one.ID), "in memory")
	assert.Equal(t, 2, r.book(0).OpenHolds(), "the other's counts too")
	commit := r.op(quota.VerbCommit, 1, 60)
	commit.Of, commit.Levels = one.ID, nil
	r.apply(1, commit)
	r.apply(0, r.op(quota.VerbCharge, 2, 1))
	assert.False(t, r.book(0).Holds(one.ID))
	assert.Equal(t, 1, r.book(0).OpenHolds())
	release := r.op(quota.VerbRelease, 1, 0)
	release.Of, release.Levels = two.ID, nil
	r.apply(0, release)
	assert.Zero(t, r.book(0).OpenHolds())
	got, err := r.of[1].Peek(ctx, "acme", r.op(quota.VerbCharge, 1, 1).Levels, noon)
	require.NoError(t, err)
	assert.Equal(t, quota.Credits(64), got[0].Used)
	assert.Zero(t, got[0].Held)
	assert.Equal(t, quota.Credits(66), got[1].Used)

	short := reserve(300)
	short.TTL = 1e6
	r.apply(1, short)
	r.apply(0, r.op(quota.VerbCharge, 2, 1))
	assert.Equal(t, 1, r.book(0).OpenHolds())
	later := r.op(quota.VerbCharge, 2, 1)
	later.At += 2e6
	r.apply(0, later)
	assert.Zero(t, r.book(0).OpenHolds(), "its time was over")
	assert.Zero(t, r.book(0).Row(used(1)).Counter().Held)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"(0,1)": 1, "(1,2)": 1<<16 | 2, "(4294967294,65535)": 4294967294<<16 | 65535} {
		got, rest, ok := parsePlace(text + "(3,4)")
		assert.True(t, ok)
		assert.Equal(t, want, got)
		assert.Equal(t, "(3,4)", rest)
		assert.Equal(t, text, placeText(got))
	}
	for _, text := range []string{"", "(", "()", "(0,0)", "(1)", "(-1,1)", "(1,70000)", "0,1)", "(0,1"} {
		_, _, ok := parsePlace(text)
		assert.False(t, ok, text)
	}
	for _, c := range []struct {
		places, made string
		want         []uint64
	}{
		{"11(0,5)13(2,1)", "(0,7)", []uint64{5, 7, 2<<16 | 1}},
		{"", "(0,1)(0,2)(0,3)", []uint64{1, 2, 3}},
		{"12(0,9)", "", []uint64{0, 9, 0}},
		{"10(0,1)14(0,1)", "", []uint64{0, 0, 0}}, // others' numbers
		{"x", "y", []uint64{0, 0, 0}},
	} {
		got := make([]uint64, 3)
		place(11, 3, c.places, c.made, func(i int, x uint64) { got[i] = x })
		assert.Equal(t, c.want, got, "%q, %q", c.places, c.made)
	}
}

func FuzzMove(f *testing.F) {
	b := &book{Book: quota.NewBook("acme", nil)}
	row := b.Restore(used(1), quota.Counter{Used: 5, Max: 1000, End: noon + 1e12, Capped: true, Ceiling: -3, Marks: []quota.Mark{{Start: noon, Threshold: 80}}}, false)
	bucket := b.Restore(carriedBy(used(1), noon), quota.Counter{Used: 5, Held: 3, Requests: 2, Stranded: 1}, false)
	receipts := quota.Changes{Receipts: []*quota.Receipt{{ID: "one"}, {ID: ""}}}
	f.Add(appendMove(nil, &changes{first: 7, homes: []*quota.Home{b.lodge(row, nil, false, 0)}, Changes: receipts}))
	f.Add(appendMove(nil, &changes{first: 1, homes: []*quota.Home{b.lodge(row, nil, true, noon)}}))
	f.Add(appendMove(nil, &changes{first: 1, homes: []*quota.Home{b.lodge(row, bucket, true, noon)}}))
	f.Add([]byte{moveVersion, 1, 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := parseMove(src)
		if err != nil {
			return
		}
		b := &book{Book: quota.NewBook("acme", nil)}
		c := &changes{first: m.first}
		for i := range m.counters {
			c.homes = append(c.homes, m.counters[i].restore(b))
		}
		for _, id := range m.ids {
			c.Receipts = append(c.Receipts, &quota.Receipt{ID: id})
		}
		again, err := parseMove(appendMove(nil, c))
		require.NoError(t, err)
		assert.Len(t, again.counters, len(m.counters))
		assert.Equal(t, m.ids, again.ids)
	})
}
