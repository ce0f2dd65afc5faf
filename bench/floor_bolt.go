package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

var (
	bucketPurses = []byte("purses")
	bucketUsage  = []byte("usage")
	bucketLog    = []byte("log")
)

// boltFile is a bbolt file with a purse of 24 bytes (used, limit, window) for
// every key, account and organization, as one lays it out without a library.
type boltFile struct {
	db      *bbolt.DB
	dir     string
	shape   fixture.Shape
	quarter uint32 // of an hour, that usage is counted in now
}

// The levels' ids do not collide: the level is their first byte.
const (
	levelKey = iota
	levelAccount
	levelOrg
)

type purseID [9]byte

func idOf(level byte, n int) (id purseID) {
	id[0] = level
	binary.BigEndian.PutUint64(id[1:], uint64(n))
	return id
}

// path is the three purses that a charge of key n takes from.
func (b *boltFile) path(n int) [3]purseID {
	account, org := b.shape.Parents(n)
	return [3]purseID{idOf(levelKey, n), idOf(levelAccount, account), idOf(levelOrg, org)}
}

// openBolt makes a file with the shape's purses and, for each of them, a usage
// bucket in each hour of so many days.
func openBolt(env harness.Env, shape fixture.Shape, days int) (*boltFile, error) {
	dir, err := os.MkdirTemp(env.Dir, "bolt-")
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 256 << 20,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := &boltFile{db: db, dir: dir, shape: shape, quarter: uint32(days * 24 * 4)}
	if err := b.fill(days); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *boltFile) fill(days int) error {
	b.db.NoSync = true
	var ids []purseID
	for level, n := range [...]int{b.shape.Keys, b.shape.Accounts, b.shape.Orgs} {
		for i := range n {
			ids = append(ids, idOf(byte(level), i))
		}
	}
	purse := make([]byte, 24)
	binary.BigEndian.PutUint64(purse[8:], 1<<62)
	per := 1 + days*24 // rows of one id
	// bbolt splits a node only at commit: one huge transaction is quadratic.
	const chunk = 4096
	for at := 0; at < len(ids); at += max(1, chunk/per) {
		err := b.db.Update(func(tx *bbolt.Tx) error {
			var buckets [3]*bbolt.Bucket
			for i, name := range [][]byte{bucketPurses, bucketUsage, bucketLog} {
				var err error
				if buckets[i], err = tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			for _, id := range ids[at:min(at+max(1, chunk/per), len(ids))] {
				if err := buckets[0].Put(id[:], purse); err != nil {
					return err
				}
				for hour := range days * 24 {
					if err := buckets[1].Put(usageKey(id, uint32(hour*4)), purse[:16]); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := b.db.Sync(); err != nil {
		return err
	}
	b.db.NoSync = false
	return nil
}

func (b *boltFile) Close() error { return errors.Join(b.db.Close(), os.RemoveAll(b.dir)) }

func usageKey(id purseID, quarter uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 13), id[:]...), quarter)
}

// take adds n to the first number of a row, bounded by the second.
func take(b *bbolt.Bucket, key []byte, n int64) error {
	var row [24]byte
	copy(row[:], b.Get(key))
	used := int64(binary.BigEndian.Uint64(row[:])) + n
	if used > int64(binary.BigEndian.Uint64(row[8:])) {
		return errRefused
	}
	binary.BigEndian.PutUint64(row[:], uint64(used))
	return b.Put(key, row[:])
}

// count adds a request of n credits to a usage bucket.
func count(b *bbolt.Bucket, key []byte, n uint64) error {
	var row [16]byte
	copy(row[:], b.Get(key))
	binary.BigEndian.PutUint64(row[:], binary.BigEndian.Uint64(row[:])+n)
	binary.BigEndian.PutUint64(row[8:], binary.BigEndian.Uint64(row[8:])+1)
	return b.Put(key, row[:])
}

// charge is one durable transaction: three purses and, if asked, three usage
// buckets.
func (b *boltFile) charge(key int, usage bool) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		purses := tx.Bucket(bucketPurses)
		path := b.path(key)
		for _, id := range path {
			if err := take(purses, id[:], 1); err != nil {
				return err
			}
		}
		if !usage {
			return nil
		}
		buckets := tx.Bucket(bucketUsage)
		for _, id := range path {
			if err := count(buckets, usageKey(id, b.quarter), 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// boltUpdate is bare db.Update a charge: durable, three purses, no key check.
func boltUpdate(work, who string, shape fixture.Shape, callers, days int, usage bool) harness.Case {
	return harness.Case{Work: work, Who: who, Callers: callers,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			if env.Quick {
				days = min(days, 3)
			}
			b, err := openBolt(env, cut(env, shape), days)
			if err != nil {
				return nil, err
			}
			return &harness.Running{Close: b.Close, Op: func(w, i int) error {
				return b.charge(fixture.Pick(w, i, b.shape.Keys), usage)
			}}, nil
		}}
}

// boltProbe is what a design could reach on bbolt: callers gather while the
// last commit is being written, and a commit is one appended value with 32
// bytes a charge. It decides nothing and could not be opened again.
func boltProbe(work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoProbe, Callers: callers,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			b, err := openBolt(env, cut(env, shape), 0)
			if err != nil {
				return nil, err
			}
			j := newJournal(b.db)
			return &harness.Running{
				Op:    func(w, i int) error { return j.add(fixture.Pick(w, i, b.shape.Keys)) },
				Close: func() error { j.close(); return b.Close() },
			}, nil
		}}
}

// journal commits what its callers add, many with one sync.
type journal struct {
	db   *bbolt.DB
	mu   sync.Mutex
	next *batch
	wake chan struct{} // holds one token while next has work
	done chan struct{}
}

type batch struct {
	value []byte
	ready chan struct{}
	err   error
}

func newBatch() *batch { return &batch{ready: make(chan struct{})} }

func newJournal(db *bbolt.DB) *journal {
	j := &journal{db: db, next: newBatch(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go j.run()
	return j
}

func (j *journal) add(key int) error {
	j.mu.Lock()
	b := j.next
	first := len(b.value) == 0
	b.value = binary.BigEndian.AppendUint64(b.value, uint64(key))
	b.value = append(b.value, make([]byte, 24)...)
	j.mu.Unlock()
	if first {
		j.wake <- struct{}{}
	}
	<-b.ready
	return b.err
}

func (j *journal) run() {
	defer close(j.done)
	var seq uint64
	for range j.wake {
		j.mu.Lock()
		b := j.next
		j.next = newBatch()
		j.mu.Unlock()
		seq++
		b.err = j.db.Update(func(tx *bbolt.Tx) error {
			log := tx.Bucket(bucketLog)
			// As after a checkpoint: the file stays small.
			if err := log.Delete(binary.BigEndian.AppendUint64(nil, seq-64)); err != nil {
				return err
			}
			return log.Put(binary.BigEndian.AppendUint64(nil, seq), b.value)
		})
		close(b.ready)
	}
}

// close stops the committer; nothing may be added any more.
func (j *journal) close() {
	close(j.wake)
	<-j.done
}
