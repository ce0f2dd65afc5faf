// Package tamper does to an audit log what somebody with write access to the
// store could do, and checks that Service.Verify names it. Each backend runs it
// on its own file or table.
package tamper

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
)

// Target is a store whose rows can be written behind its back.
type Target struct {
	Store store.Store
	// Put replaces all that is stored of an organization's audit log.
	Put func(t *testing.T, org string, cut saccount.Cut, entries []saccount.Entry)
}

var (
	secret = saccount.Secret{ID: "2030-01", Key: bytes.Repeat([]byte("s"), 32)}
	other  = saccount.Secret{ID: "2029-01", Key: bytes.Repeat([]byte("o"), 32)}
)

const by = saccount.Actor("user:alice")

// entries is how many a log of these tests has.
const entries = 9

// log makes a log of an organization, and gives it.
func log(t *testing.T, st store.Store, org string, secrets ...saccount.Secret) []saccount.Entry {
	t.Helper()
	svc := service(t, st, secrets...)
	_, err := svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: org})
	require.NoError(t, err)
	for i := range entries - 1 {
		_, err := svc.CreateAccount(t.Context(), by, org, saccount.AccountSpec{Name: fmt.Sprint("Account ", i)})
		require.NoError(t, err)
	}
	return read(t, st, org)
}

func service(t *testing.T, st store.Store, secrets ...saccount.Secret) *saccount.Service {
	t.Helper()
	at := time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
	svc, err := saccount.New(st, saccount.Config{Secrets: secrets, Now: func() time.Time { at = at.Add(time.Minute); return at }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	return svc
}

func read(t *testing.T, st store.Store, org string) []saccount.Entry {
	t.Helper()
	es, err := st.Audit(context.Background(), org, 0, 1000)
	require.NoError(t, err)
	return es
}

// renumber numbers entries from 1, as who hides a gap would.
func renumber(es []saccount.Entry) []saccount.Entry {
	for i := range es {
		es[i].Seq = int64(i) + 1
	}
	return es
}

func clone(es []saccount.Entry) []saccount.Entry {
	out := slices.Clone(es)
	for i := range out {
		out[i].Data = bytes.Clone(out[i].Data)
	}
	return out
}

// logs are what there is to tamper with: of acme, of another organization, of
// acme in another store with the same secret and another history, and of acme
// in a store without secrets.
type logs struct{ acme, rival, elsewhere, plain, foreign []saccount.Entry }

type deed struct {
	name string
	do   func(l *logs) []saccount.Entry // what it leaves of acme's log
	cut  saccount.Cut
	kind saccount.BreachKind
	seq  int64
}

func deeds() []deed {
	none := saccount.Cut{}
	return []deed{
		{"nothing", func(l *logs) []saccount.Entry { return l.acme }, none, "", 0},
		{"another actor", func(l *logs) []saccount.Entry {
			l.acme[4].Data = bytes.Replace(l.acme[4].Data, []byte("alice"), []byte("mallo"), 1)
			return l.acme
		}, none, saccount.BreachChanged, 5},
		{"another time", func(l *logs) []saccount.Entry { l.acme[4].At = l.acme[4].At.Add(time.Microsecond); return l.acme }, none, saccount.BreachChanged, 5},
		{"the last entry changed", func(l *logs) []saccount.Entry { l.acme[8].Data = []byte("{}"); return l.acme }, none, saccount.BreachChanged, 9},
		{"the first entry changed", func(l *logs) []saccount.Entry { l.acme[0].Data = []byte("{}"); return l.acme }, none, saccount.BreachChanged, 1},
		{"an entry emptied", func(l *logs) []saccount.Entry { l.acme[4].Data = nil; return l.acme }, none, saccount.BreachChanged, 5},
		{"a mark changed", func(l *logs) []saccount.Entry {
			m := []byte(l.acme[4].Mark)
			m[len(m)-5] ^= 1
			l.acme[4].Mark = string(m)
			return l.acme
		}, none, saccount.BreachReplaced, 5},
		{"a mark of nonsense", func(l *logs) []saccount.Entry { l.acme[4].Mark = "x:y"; return l.acme }, none, saccount.BreachChanged, 5},
		{"an entry's content given another's mark", func(l *logs) []saccount.Entry { l.acme[4].Mark = l.acme[5].Mark; return l.acme }, none, saccount.BreachChanged, 5},
		{"one removed", func(l *logs) []saccount.Entry { return slices.Delete(l.acme, 4, 5) }, none, saccount.BreachRemoved, 5},
		{"two removed, the rest numbered anew", func(l *logs) []saccount.Entry { return renumber(slices.Delete(l.acme, 4, 6)) }, none, saccount.BreachRemoved, 5},
		{"all removed", func(*logs) []saccount.Entry { return nil }, none, saccount.BreachRemoved, 1},
		{"one made up", func(l *logs) []saccount.Entry {
			e := l.acme[4]
			e.Data = bytes.Replace(e.Data, []byte("alice"), []byte("mallo"), 1)
			return renumber(slices.Insert(l.acme, 4, e))
		}, none, saccount.BreachInserted, 5},
		{"a copy put in", func(l *logs) []saccount.Entry { return renumber(slices.Insert(l.acme, 4, l.acme[2])) }, none, saccount.BreachInserted, 5},
		{"a copy put at the end", func(l *logs) []saccount.Entry { return renumber(append(l.acme, l.acme[2])) }, none, saccount.BreachInserted, 10},
		{"neighbours changed about", func(l *logs) []saccount.Entry {
			l.acme[4], l.acme[5] = l.acme[5], l.acme[4]
			return renumber(l.acme)
		}, none, saccount.BreachReordered, 5},
		{"one moved to the end", func(l *logs) []saccount.Entry {
			e := l.acme[4]
			return renumber(append(slices.Delete(l.acme, 4, 5), e))
		}, none, saccount.BreachReordered, 5},
		{"the last moved forward", func(l *logs) []saccount.Entry {
			e := l.acme[8]
			return renumber(slices.Insert(l.acme[:8], 4, e))
		}, none, saccount.BreachReordered, 5},
		{"the front cut", func(l *logs) []saccount.Entry { return l.acme[3:] }, none, saccount.BreachCutFront, 1},
		{"the front cut, the rest numbered anew", func(l *logs) []saccount.Entry { return renumber(l.acme[3:]) }, none, saccount.BreachCutFront, 1},
		{"the front cut, and said to be so", func(l *logs) []saccount.Entry { return l.acme[3:] },
			saccount.Cut{Through: 3, Mark: "acme", Seal: "2030-01:bm90IHRoZSBzZWFs"}, saccount.BreachCutFront, 4},
		{"the front cut, and said to be so without a secret", func(l *logs) []saccount.Entry { return l.acme[3:] },
			saccount.Cut{Through: 3, Mark: "acme", Seal: ":bm90IHRoZSBzZWFs"}, saccount.BreachUnkeyed, 4},
		{"one of another organization put in place of one", func(l *logs) []saccount.Entry { l.acme[4] = l.rival[4]; return l.acme }, none, saccount.BreachCopied, 5},
		{"the log of another organization", func(l *logs) []saccount.Entry { return l.rival }, none, saccount.BreachCopied, 1},
		{"one of the same organization in another store", func(l *logs) []saccount.Entry { l.acme[4] = l.elsewhere[4]; return l.acme }, none, saccount.BreachReplaced, 5},
		{"a mark taken off", func(l *logs) []saccount.Entry { l.acme[4].Mark = ""; return l.acme }, none, saccount.BreachUnmarked, 5},
		{"all marks taken off", func(l *logs) []saccount.Entry {
			for i := range l.acme {
				l.acme[i].Mark = ""
			}
			return l.acme
		}, none, saccount.BreachUnmarked, 1},
		{"all of it chained anew without the secret", func(l *logs) []saccount.Entry { return l.plain }, none, saccount.BreachUnkeyed, 1},
		{"the end of it chained anew without the secret", func(l *logs) []saccount.Entry { return append(l.acme[:5], l.plain[5:]...) }, none, saccount.BreachUnkeyed, 6},
		{"all of it sealed under another secret", func(l *logs) []saccount.Entry { return l.foreign }, none, saccount.BreachSecret, 1},
	}
}

// Run does every deed to stores that open gives.
func Run(t *testing.T, open func(t *testing.T) Target) {
	target := open(t)
	all := logs{
		acme: log(t, target.Store, "acme", secret), rival: log(t, target.Store, "rival", secret),
		foreign: log(t, memstore.New(), "acme", other), plain: log(t, memstore.New(), "acme"),
	}
	// The same secret and organization, and another history.
	st := memstore.New()
	svc := service(t, st, secret)
	_, err := svc.CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme", Name: "Elsewhere"})
	require.NoError(t, err)
	for i := range entries - 1 {
		_, err := svc.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: fmt.Sprint("m", i)})
		require.NoError(t, err)
	}
	all.elsewhere = read(t, st, "acme")

	svc = service(t, target.Store, secret)
	verify := func(t *testing.T, v saccount.Verify) saccount.Verified {
		t.Helper()
		got, err := svc.Verify(context.Background(), "acme", v)
		require.NoError(t, err)
		return got
	}
	put := func(t *testing.T, cut saccount.Cut, es []saccount.Entry) {
		t.Helper()
		target.Put(t, "acme", cut, es)
	}
	for _, d := range deeds() {
		t.Run(d.name, func(t *testing.T) {
			l := logs{clone(all.acme), clone(all.rival), clone(all.elsewhere), clone(all.plain), clone(all.foreign)}
			put(t, d.cut, d.do(&l))
			got := verify(t, saccount.Verify{})
			if d.kind == "" {
				require.Nil(t, got.Bad)
				assert.Equal(t, int64(entries), got.Entries)
				return
			}
			require.NotNil(t, got.Bad)
			assert.Equal(t, [2]any{d.kind, d.seq}, [2]any{got.Bad.Kind, got.Bad.Seq}, got.Bad.Detail)
			if !strings.HasPrefix(d.name, "the front cut, and") {
				assert.Equal(t, d.seq-1, got.Entries, "what stands before it is good")
			}
			for most := range int64(4) { // in steps of 1 to 4
				v := saccount.Verify{Most: most + 1}
				step := verify(t, v)
				for step.More {
					require.Equal(t, v.Most, step.Entries)
					v.From = step.Head
					step = verify(t, v)
				}
				require.NotNil(t, step.Bad, "in steps of %d", v.Most)
				assert.Equal(t, d.seq, step.Bad.Seq, "in steps of %d", v.Most)
				if d.kind != saccount.BreachReordered || step.Bad.Kind != saccount.BreachRemoved { // it may stand too far off
					assert.Equal(t, d.kind, step.Bad.Kind, "in steps of %d: %s", v.Most, step.Bad.Detail)
				}
			}
		})
	}
	anchor := saccount.Head{Seq: entries, Mark: all.acme[entries-1].Mark}
	t.Run("the tail cut", func(t *testing.T) {
		put(t, saccount.Cut{}, all.acme[:6])
		require.Nil(t, verify(t, saccount.Verify{}).Bad, "it cannot be seen without an anchor")
		got := verify(t, saccount.Verify{Anchor: anchor})
		require.NotNil(t, got.Bad)
		assert.Equal(t, [2]any{saccount.BreachCutTail, int64(7)}, [2]any{got.Bad.Kind, got.Bad.Seq})
	})
	t.Run("the log of another store, which verifies by itself", func(t *testing.T) {
		put(t, saccount.Cut{}, all.elsewhere)
		require.Nil(t, verify(t, saccount.Verify{}).Bad, "it cannot be seen without an anchor")
		got := verify(t, saccount.Verify{Anchor: anchor})
		require.NotNil(t, got.Bad)
		assert.Equal(t, [2]any{saccount.BreachReplaced, int64(entries)}, [2]any{got.Bad.Kind, got.Bad.Seq})
	})
	t.Run("between two steps", func(t *testing.T) {
		put(t, saccount.Cut{}, all.acme)
		first := verify(t, saccount.Verify{Most: 5, Anchor: anchor})
		assert.Equal(t, saccount.Verified{Entries: 5, Head: saccount.Head{Seq: 5, Mark: all.acme[4].Mark}, More: true}, first)
		rest := verify(t, saccount.Verify{From: first.Head, Anchor: anchor})
		assert.Equal(t, saccount.Verified{Entries: entries - 5, Head: anchor}, rest)
		assert.Equal(t, saccount.Verified{Head: anchor}, verify(t, saccount.Verify{From: anchor, Anchor: anchor}), "nothing came since")
		changed := clone(all.acme)
		changed[4].Data = []byte("{}")
		for kind, es := range map[saccount.BreachKind][]saccount.Entry{
			saccount.BreachCutTail: all.acme[:4], saccount.BreachRemoved: slices.Delete(clone(all.acme), 4, 5),
			saccount.BreachReplaced: all.elsewhere, saccount.BreachChanged: changed,
		} {
			put(t, saccount.Cut{}, es)
			got := verify(t, saccount.Verify{From: first.Head})
			if assert.NotNil(t, got.Bad, kind) {
				assert.Equal(t, saccount.Breach{Seq: 5, Kind: kind, Detail: got.Bad.Detail}, *got.Bad)
			}
		}
		put(t, saccount.Cut{}, append(clone(all.acme[:5]), all.plain[5:]...))
		assert.Equal(t, saccount.BreachUnkeyed, verify(t, saccount.Verify{From: first.Head, Unkeyed: true}).Bad.Kind, "a secret was in use before")
		for _, v := range []saccount.Verify{
			{Most: -1}, {From: saccount.Head{Seq: -1, Mark: "x"}}, {From: saccount.Head{Seq: 3}}, {From: first.Head, Anchor: saccount.Head{Seq: 2, Mark: all.acme[1].Mark}},
		} {
			_, err := svc.Verify(t.Context(), "acme", v)
			require.ErrorIs(t, err, saccount.ErrInvalid)
		}
	})
	t.Run("retention", func(t *testing.T) {
		put(t, saccount.Cut{}, all.acme)
		n, err := svc.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: all.acme[4].At})
		require.NoError(t, err)
		assert.Equal(t, int64(4), n)
		got := verify(t, saccount.Verify{Anchor: anchor})
		require.Nil(t, got.Bad)
		assert.Equal(t, [2]int64{4, entries - 4 + 1}, [2]int64{got.Through, got.Entries}, "and an entry for the cut")
		_, err = svc.Verify(t.Context(), "acme", saccount.Verify{Anchor: saccount.Head{Seq: 2, Mark: all.acme[1].Mark}})
		require.ErrorIs(t, err, saccount.ErrInvalid, "nothing is left to hold that anchor to")
		_, err = svc.Verify(t.Context(), "acme", saccount.Verify{From: saccount.Head{Seq: 2, Mark: all.acme[1].Mark}})
		require.ErrorIs(t, err, saccount.ErrInvalid, "nor to go on from")
		require.Nil(t, verify(t, saccount.Verify{From: saccount.Head{Seq: 4, Mark: all.acme[3].Mark}}).Bad, "the last that was cut is known")
		require.NotNil(t, verify(t, saccount.Verify{From: saccount.Head{Seq: 4, Mark: all.elsewhere[3].Mark}}).Bad)
		cut, _, err := target.Store.AuditEnds(t.Context(), "acme")
		require.NoError(t, err)
		rest := read(t, target.Store, "acme")
		// What was cut cannot be made to seem more, or less.
		more := cut
		more.Through, more.Mark = rest[1].Seq, rest[1].Mark
		put(t, more, rest[2:])
		assert.Equal(t, saccount.BreachCutFront, verify(t, saccount.Verify{}).Bad.Kind)
		put(t, cut, rest[1:])
		assert.Equal(t, [2]any{saccount.BreachRemoved, int64(5)}, [2]any{verify(t, saccount.Verify{}).Bad.Kind, verify(t, saccount.Verify{}).Bad.Seq})
		put(t, saccount.Cut{}, rest)
		assert.Equal(t, saccount.BreachCutFront, verify(t, saccount.Verify{}).Bad.Kind)
		put(t, cut, rest)
		require.Nil(t, verify(t, saccount.Verify{}).Bad)
		// Nor does a cut hide what was done before it.
		bad := clone(rest)
		bad[1].Data = []byte("{}")
		put(t, cut, bad)
		_, err = svc.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: rest[3].At})
		require.ErrorIs(t, err, saccount.ErrTampered)
		require.ErrorContains(t, err, "entry 6 is not as it was written")
		n, err = svc.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: rest[3].At, Broken: true})
		require.NoError(t, err)
		assert.Equal(t, int64(3), n)
		require.Nil(t, verify(t, saccount.Verify{}).Bad)
	})
}
