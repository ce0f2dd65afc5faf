package boltstore

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
)

const benchKeys = 10_000

// spread runs op b.N times by so many callers and reports the rate and the
// slowest hundredth.
func spread(b *testing.B, callers int, op func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	took := make([][]time.Duration, callers)
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for i := c; i < b.N; i += callers {
				at := time.Now()
				if err := op(int(uint64(i)*0x9E3779B97F4A7C15>>33) % benchKeys); err != nil {
					b.Error(err)
					return
				}
				took[c] = append(took[c], time.Since(at))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "charges/s")
	}
}

// BenchmarkApply is a charge of three levels, usage included, durable before it
// is answered.
func BenchmarkApply(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openNew(b, Config{})
			plant(b, s, "acme")
			l := ledger(b, s)
			chains := make([]quota.Chain, benchKeys)
			c := chain("acme", "none", much)
			for i, k := range names("key", benchKeys) {
				chains[i] = chain("acme", k, much)
				chains[i].Purses = append(chains[i].Purses[:1:1], c.Purses[1:]...)
			}
			spread(b, callers, func(i int) error {
				d, err := l.Charge(ctx, chains[i], quota.Charge{Amount: 1, At: now})
				if err == nil && !d.Allowed {
					err = quota.ErrBusy
				}
				return err
			})
			require.NoError(b, l.Close())
		})
	}
}

// BenchmarkUpdate is the floor: a bare transaction on three counters a charge.
func BenchmarkUpdate(b *testing.B) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoStatistics: true, InitialMmapSize: 1 << 28})
	require.NoError(b, err)
	defer db.Close()
	bucket := []byte("purses")
	key := func(level byte, n int) []byte { return binary.BigEndian.AppendUint64([]byte{level}, uint64(n)) }
	db.NoSync = true
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		x, err := tx.CreateBucketIfNotExists(bucket)
		for i := range benchKeys {
			if err == nil {
				err = x.Put(key(0, i), make([]byte, 24))
			}
		}
		return err
	}))
	require.NoError(b, db.Sync())
	db.NoSync = false
	spread(b, 1, func(i int) error {
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
	})
}
