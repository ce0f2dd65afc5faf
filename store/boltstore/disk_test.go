package boltstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// disk is one that is full until it is given room.
type disk struct {
	path string
	cfg  Config
	room func(t *testing.T, s *Store)
	why  error
}

// A full disk refuses what needs room, loses nothing, serves what is there, and
// the store goes on by itself once there is room.
func TestFullDisk(t *testing.T) {
	disks := map[string]disk{
		"a bound on the file": {
			path: filepath.Join(t.TempDir(), "store.db"), cfg: Config{MaxSize: 2 << 20}, why: berrors.ErrMaxSizeReached,
			room: func(_ *testing.T, s *Store) { s.db.MaxSize = 0 },
		},
	}
	if dir, ok := smallDisk(t); ok {
		filler := filepath.Join(dir, "filler")
		require.NoError(t, os.WriteFile(filler, make([]byte, 5<<20), 0o600))
		disks["a full file system"] = disk{
			path: filepath.Join(dir, "store.db"), why: syscall.ENOSPC,
			room: func(t *testing.T, _ *Store) { require.NoError(t, os.Remove(filler)) },
		}
	}
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			d.cfg.JournalBytes, d.cfg.NoSyncForTests = 64<<10, true
			s := openAt(t, d.path, d.cfg)
			keys := names("key", 40)
			plant(t, s, "acme", keys...)
			l := ledger(t, s)
			want := map[string]quota.Credits{}
			charges, refused := 0, 0
			try := func(i int) error {
				k := keys[i%len(keys)]
				_, err := l.Charge(ctx, chain("acme", k, much), quota.Charge{ID: fmt.Sprintf("%0200d", i), Amount: 1, At: now})
				if err == nil {
					want[k]++
					charges++
				}
				return err
			}
			verify := func(s *Store) {
				for k, n := range want {
					u, sum, _ := used(t, s, chain("acme", k, much), now)
					require.Equal(t, n, u, "key %s of %d charges", k, charges)
					require.Equal(t, n, sum)
				}
			}
			i := 0
			for ; refused < 50 && i < 100_000; i++ {
				if err := try(i); err != nil {
					require.ErrorIs(t, err, d.why)
					require.ErrorContains(t, err, "nothing was changed")
					refused++
				}
			}
			require.Equal(t, 50, refused, "the disk was never full")
			require.Greater(t, charges, 100)
			verify(s)
			err := s.Write(ctx, saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{{Record: saccount.Record{
				Kind: saccount.KindAccount, Org: "acme", ID: "big", Parent: "acme", Name: "Big", Data: make([]byte, 4<<20)}}}})
			require.ErrorIs(t, err, d.why)
			_, err = s.Lookup(ctx, "acme", saccount.KindAccount, "big")
			require.ErrorIs(t, err, saccount.ErrNotFound)

			d.room(t, s)
			for end := i + 200; i < end; i++ {
				require.NoError(t, try(i))
			}
			verify(s)
			problems, err := s.Check(ctx)
			require.NoError(t, err)
			assert.Empty(t, problems)
			require.NoError(t, l.Close())
			require.NoError(t, s.Close())
			d.cfg.MaxSize = 0
			verify(openAt(t, d.path, d.cfg))
		})
	}
}

// A disk that fails while it syncs leaves open what is on it: nothing is written
// any more until the file is opened again, and that tells.
func TestFailedSync(t *testing.T) {
	s := openNew(t, Config{})
	plant(t, s, "acme", "k1")
	l := ledger(t, s)
	charge(t, l, chain("acme", "k1", much), "", 5, now)
	s.mu.Lock()
	failed := s.refused(fmt.Errorf("fdatasync: %w", syscall.EIO))
	s.mu.Unlock()
	require.ErrorIs(t, failed, syscall.EIO)
	_, err := l.Charge(ctx, chain("acme", "k1", much), quota.Charge{Amount: 5, At: now})
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorContains(t, err, "open the store again")
	require.ErrorIs(t, s.Write(ctx, saccount.Batch{Org: "acme", At: now, Audit: []saccount.Entry{{At: now}}}), syscall.EIO)
	_, err = s.Lookup(ctx, "", saccount.KindKey, "k1")
	require.NoError(t, err, "what is there is still read")
	path := s.db.Path()
	require.NoError(t, s.Close())
	u, _, _ := used(t, openAt(t, path, Config{}), chain("acme", "k1", much), now)
	assert.Equal(t, quota.Credits(5), u)
}

// What is not a lack of room is never taken for one.
func TestNoRoom(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&os.PathError{Op: "write", Err: syscall.ENOSPC}, true},
		{&os.PathError{Op: "write", Err: syscall.EDQUOT}, true},
		{&os.PathError{Op: "write", Err: syscall.EIO}, false},
		{&os.PathError{Op: "sync", Err: syscall.ENOSPC}, false},
		{fmt.Errorf("spill: %w", berrors.ErrMaxSizeReached), true},
		{errors.New("file resize error: no space left on device"), true},
		{errors.New("file sync error: input/output error"), false},
		{syscall.ENOSPC, false}, // as fdatasync says it
		{io.ErrShortWrite, false},
	} {
		assert.Equal(t, c.want, noRoom(c.err), "%v", c.err)
	}
}
