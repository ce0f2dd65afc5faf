package boltstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// full makes a store with something of everything in it, and says how to read
// all of it.
func full(t *testing.T, path string, leave func(testing.TB, *Store)) (keys []string, ids []string) {
	t.Helper()
	keys = names("key", 40)
	s := openAt(t, path, Config{NoSyncForTests: true})
	plant(t, s, "acme", keys...)
	plant(t, s, "other", "theirs")
	l := ledger(t, s)
	for i := range 240 {
		id := ""
		if i%2 == 0 {
			id = fmt.Sprintf("id%04d", i)
			ids = append(ids, id)
		}
		charge(t, l, chain("acme", keys[i%len(keys)], 1000), id, 1, now.Add(time.Duration(i)*time.Minute))
		if i == 120 { // the rest is in the journal, if it is abandoned
			require.NoError(t, s.checkpoint(ctx, "test"))
		}
	}
	for i := range 10 {
		_, err := l.Reserve(ctx, chain("acme", keys[i], 1000), quota.Reserve{ID: fmt.Sprintf("hold%d", i), Amount: 2, TTL: time.Hour, At: now})
		require.NoError(t, err)
		ids = append(ids, fmt.Sprintf("hold%d", i))
	}
	require.NoError(t, s.Touch(ctx, []saccount.Touch{{Org: "acme", Key: keys[0], Use: saccount.Use{At: now, Addr: "192.0.2.1"}}}))
	require.NoError(t, l.Close())
	leave(t, s)
	return keys, ids
}

// readAll reads everything that full made, each thing as what it is or that it
// cannot be read. Only errors that say ErrCorrupt count as such.
func readAll(t *testing.T, s *Store, keys, ids []string) map[string]any {
	out := map[string]any{}
	put := func(name string, err error, v any) {
		if err != nil {
			require.ErrorIs(t, err, quota.ErrCorrupt, name)
			out[name] = "corrupt"
			return
		}
		out[name] = v
	}
	for _, kind := range []saccount.Kind{saccount.KindOrg, saccount.KindAccount, saccount.KindKey} {
		q := saccount.ListQuery{Kind: kind, Org: "acme", Limit: 1000}
		if kind == saccount.KindOrg {
			q.Org = ""
		}
		page, _, err := s.List(ctx, q)
		put("list "+kind.String(), err, page)
		if kind == saccount.KindKey {
			q.Parent = "worker"
			page, _, err = s.List(ctx, q)
			put("children", err, page)
			q.ByName = true
			page, _, err = s.List(ctx, q)
			put("names", err, page)
		}
	}
	subjects := []quota.Subject{"org:acme", "account:worker"}
	for _, k := range append([]string{"theirs"}, keys...) {
		l, err := s.Lookup(ctx, "", saccount.KindKey, k)
		var seen any
		if err == nil {
			seen = []any{l.Record, *l.Account, *l.Org, l.Settings}
		} else if errors.Is(err, saccount.ErrNotFound) {
			err, seen = nil, "missing"
		}
		put("key "+k, err, seen)
		subjects = append(subjects, quota.NewSubject(quota.KindKey, k))
		c := chain("acme", k, 1000)
		var levels []*quota.Level
		for _, p := range c.Purses {
			lv, err := p.Level(now.UnixMicro())
			require.NoError(t, err)
			levels = append(levels, lv)
		}
		f, err := s.Peek(ctx, "acme", levels, now.UnixMicro())
		put("purse "+k, err, f)
	}
	for _, sub := range subjects {
		rows := map[usage.Row]bool{}
		err := s.Usage(ctx, usage.Range{Org: "acme", Subjects: []quota.Subject{sub}, To: now.AddDate(1, 0, 0).UnixMicro()}, func(r usage.Row) error {
			rows[r] = true
			return nil
		})
		put("usage "+string(sub), err, rows)
	}
	for _, id := range ids {
		s.mu.Lock()
		b, err := s.book("acme")
		var r *quota.Receipt
		if err == nil {
			if r, err = b.Receipt(id); r == nil && err == nil {
				r = &quota.Receipt{}
			}
		}
		s.done()
		s.mu.Unlock()
		var seen any
		if err == nil {
			seen = *r
		}
		put("id "+id, err, seen)
	}
	alerts, err := s.Outbox(ctx, 0, 1000)
	put("outbox", err, alerts)
	entries, err := s.Audit(ctx, "acme", 0, 1000)
	put("audit", err, entries)
	return out
}

// One damaged byte anywhere in the file: whatever is read is what was written,
// or ErrCorrupt; nothing panics and nothing is silently wrong or missing.
func TestDamagedByte(t *testing.T) {
	for name, leave := range map[string]func(testing.TB, *Store){
		"closed":    func(t testing.TB, s *Store) { require.NoError(t, s.Close()) },
		"abandoned": abandon,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "store.db")
			keys, ids := full(t, path, leave)
			s := openAt(t, path, Config{NoSyncForTests: true})
			want := readAll(t, s, keys, ids)
			abandon(t, s)
			good, err := os.ReadFile(path)
			require.NoError(t, err)
			used, size := usedPages(t, path)
			good = good[:size] // what the file grew by in advance says nothing

			random := rand.New(rand.NewPCG(15, 2026))
			detected, silent := 0, 0
			copied := filepath.Join(dir, "damaged.db")
			for range 250 {
				at := used[random.IntN(len(used))]*os.Getpagesize() + random.IntN(os.Getpagesize())
				b := append([]byte{}, good...)
				b[at] ^= byte(1 + random.IntN(255))
				require.NoError(t, os.WriteFile(copied, b, 0o600))
				s, err := Open(copied, Config{NoSyncForTests: true})
				if err != nil {
					require.True(t, errors.Is(err, quota.ErrCorrupt) || errors.Is(err, saccount.ErrInvalid), "byte %d: %v", at, err)
					detected++
					continue
				}
				got := readAll(t, s, keys, ids)
				noticed := false
				for k, v := range want {
					if got[k] == "corrupt" {
						noticed = true
					} else if !reflect.DeepEqual(v, got[k]) {
						assert.Equal(t, v, got[k], "byte %d of page %d, %s", at%os.Getpagesize(), at/os.Getpagesize(), k)
						silent++
					}
				}
				problems, err := s.Check(ctx)
				require.NoError(t, err)
				if noticed || len(problems) > 0 {
					detected++
				}
				abandon(t, s)
			}
			t.Logf("of 250 damaged bytes %d were noticed, %d silently wrong", detected, silent)
			assert.Zero(t, silent)
		})
	}
}

// usedPages are the pages that hold something.
func usedPages(t *testing.T, path string) (used []int, size int64) {
	t.Helper()
	bolt(t, path, func(tx *bbolt.Tx) error {
		size = tx.Size()
		for id := 0; ; id++ {
			p, err := tx.Page(id)
			if err != nil || p == nil {
				return err
			}
			if p.Type != "free" {
				for i := range p.OverflowCount + 1 {
					used = append(used, id+i)
				}
			}
			id += p.OverflowCount
		}
	})
	return used, size
}
