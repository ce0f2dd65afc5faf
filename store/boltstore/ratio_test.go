package boltstore

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
	"path/filepath"
	"encoding/binary"

	"go.etcd.io/bbolt"
	"github.com/keypurse/keypurse/quota"
)

func run(callers int, d time.Duration, op func(i int) error) (rate float64, p50, p99, p999 time.Duration) {
	var wg sync.WaitGroup
	took := make([][]time.Duration, callers)
	start := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i := c; time.Since(start) < d; i += callers {
				at := time.Now()
				if err := op(int(uint64(i)*0x9E3779B97F4A7C15>>33) % benchKeys); err != nil {
					panic(err)
				}
				took[c] = append(took[c], time.Since(at))
			}
		})
	}
	wg.Wait()
	el := time.Since(start)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	slices.Sort(all)
	return float64(len(all)) / el.Seconds(), all[len(all)/2], all[len(all)*99/100], all[len(all)*999/1000]
}

func TestRatio(t *testing.T) {
	if os.Getenv("RATIO") == "" {
		return
	}
	s := openNew(t, Config{})
	plant(t, s, "acme")
	l := ledger(t, s)
	chains := make([]quota.Chain, benchKeys)
	c := chain("acme", "none", much)
	for i, k := range names("key", benchKeys) {
		chains[i] = chain("acme", k, much)
		chains[i].Purses = append(chains[i].Purses[:1:1], c.Purses[1:]...)
	}
	ours := func(i int) error {
		_, err := l.Charge(ctx, chains[i], quota.Charge{Amount: 1, At: now})
		return err
	}
	run(256, time.Second, ours)
	db, _ := bbolt.Open(filepath.Join(t.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoStatistics: true, InitialMmapSize: 1 << 28})
	defer db.Close()
	bucket := []byte("purses")
	key := func(level byte, n int) []byte { return binary.BigEndian.AppendUint64([]byte{level}, uint64(n)) }
	db.NoSync = true
	db.Update(func(tx *bbolt.Tx) error {
		x, err := tx.CreateBucketIfNotExists(bucket)
		for i := range benchKeys {
			if err == nil {
				err = x.Put(key(0, i), make([]byte, 24))
			}
		}
		return err
	})
	db.Sync()
	db.NoSync = false
	bare := func(i int) error {
		return db.Update(func(tx *bbolt.Tx) error {
			x := tx.Bucket(bucket)
			for _, k := range [][]byte{key(0, i), key(1, i%100), key(2, 0)} {
				var v [24]byte
				copy(v[:], x.Get(k))
				binary.BigEndian.PutUint64(v[:], binary.BigEndian.Uint64(v[:])+1)
				if err := x.Put(k, v[:]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 4 {
		r0, a, b, cc := run(1, time.Second, bare)
		fmt.Printf("bare %6.0f/s p50 %v p99 %v p999 %v\n", r0, a, b, cc)
		for _, n := range []int{1, 64, 256} {
			w := s.writes
			r, a, b9, c9 := run(n, time.Second, ours)
			fmt.Printf("  %3d %7.0f/s %5.2fx p50 %v p99 %v (%.2fx) p999 %v commits %d\n", n, r, r/r0, a, b9, float64(b9)/float64(b), c9, s.writes-w)
		}
	}
}
