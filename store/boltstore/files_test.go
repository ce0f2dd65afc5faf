package boltstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Config{})
	plant(t, s, "acme", names("key", 300)...)
	require.NoError(t, s.Close())
	return path
}

// What is not a store of this version is refused in clear words, and not
// touched.
func TestOpenRefuses(t *testing.T) {
	cases := map[string]struct {
		make func(t *testing.T, path string)
		want error
		says string
	}{
		"garbage":      {func(t *testing.T, p string) { write(t, p, bytes.Repeat([]byte("no store "), 4000)) }, saccount.ErrInvalid, "not a keypurse store"},
		"short":        {func(t *testing.T, p string) { write(t, p, []byte("x")) }, saccount.ErrInvalid, "not a keypurse store"},
		"zeros":        {func(t *testing.T, p string) { write(t, p, make([]byte, 64<<10)) }, saccount.ErrInvalid, "not a keypurse store"},
		"a directory":  {func(t *testing.T, p string) { require.NoError(t, os.Mkdir(p, 0o700)) }, saccount.ErrInvalid, "not a regular file"},
		"cut in half":  {cut(func(n int) int { return n / 2 }), quota.ErrCorrupt, "cut off"},
		"cut by a bit": {cut(func(n int) int { return n - os.Getpagesize()*3/2 }), quota.ErrCorrupt, "cut off"},
		"two pages":    {cut(func(int) int { return 2 * os.Getpagesize() }), quota.ErrCorrupt, "cut off"},
		"one page":     {cut(func(int) int { return os.Getpagesize() }), quota.ErrCorrupt, ""},
		"foreign": {func(t *testing.T, p string) {
			bolt(t, p, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("somebody's")); return err })
		}, saccount.ErrInvalid, "something else"},
		"newer": {edit(func(tx *bbolt.Tx) error {
			return tabMeta.put(tx, metaFormat, binary.BigEndian.AppendUint16(append([]byte{}, magic...), formatVersion+1))
		}), saccount.ErrVersion, "format 3"},
		"no header":      {edit(func(tx *bbolt.Tx) error { return tabMeta.delete(tx, metaFormat) }), quota.ErrCorrupt, "header"},
		"damaged header": {edit(func(tx *bbolt.Tx) error { return tx.Bucket(tabMeta.name).Put(metaFormat, []byte("keypurse")) }), quota.ErrCorrupt, "checksum"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			c.make(t, path)
			before, _ := os.ReadFile(path) // a directory has nothing to compare
			_, err := Open(path, Config{})
			require.ErrorIs(t, err, c.want)
			assert.ErrorContains(t, err, path)
			assert.ErrorContains(t, err, c.says)
			after, _ := os.ReadFile(path)
			assert.True(t, bytes.Equal(before, after), "the file was changed")
			left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// cut makes a store and cuts it off.
func cut(to func(used int) int) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		src := newFile(t)
		var size int
		bolt(t, src, func(tx *bbolt.Tx) error { size = int(tx.Size()); return nil })
		b, err := os.ReadFile(src)
		require.NoError(t, err)
		write(t, path, b[:to(size)])
	}
}

func edit(fn func(tx *bbolt.Tx) error) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		require.NoError(t, os.Rename(newFile(t), path))
		bolt(t, path, fn)
	}
}

// bolt changes a file behind the Store's back.
func bolt(t testing.TB, path string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, db.Update(fn))
	require.NoError(t, db.Close())
}

// An empty file, and an empty bbolt file, become a store.
func TestOpenFillsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	write(t, path, nil)
	if runtime.GOOS == "windows" {
		_, err := Open(path, Config{})
		require.ErrorIs(t, err, saccount.ErrInvalid)
		return
	}
	s := openAt(t, path, Config{})
	plant(t, s, "acme")
	require.NoError(t, s.Close())

	path = filepath.Join(t.TempDir(), "store.db")
	bolt(t, path, func(*bbolt.Tx) error { return nil })
	s = openAt(t, path, Config{})
	plant(t, s, "acme")
}

func TestFileIsPrivate(t *testing.T) {
	info, err := os.Stat(newFile(t))
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}

// Many make one new store at once: they end up in one and the same, one after
// the other.
func TestCreateRace(t *testing.T) {
	for _, empty := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "store.db")
		if empty && runtime.GOOS != "windows" {
			write(t, path, nil)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				s, err := Open(path, Config{OpenTimeout: 30 * time.Second})
				if assert.NoError(t, err) {
					plant(t, s, fmt.Sprintf("org%d", i), fmt.Sprintf("key%d", i))
					assert.NoError(t, s.Close())
				}
			})
		}
		wg.Wait()
		s := openAt(t, path, Config{})
		page, _, err := s.List(ctx, saccount.ListQuery{Kind: saccount.KindOrg, Limit: 100})
		require.NoError(t, err)
		assert.Len(t, page, 8, "none was replaced by another")
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
}

// A file that another process has is refused in time, and who has it is said.
func TestLocked(t *testing.T) {
	path := newFile(t)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "KEYPURSE_CHILD=hold", "KEYPURSE_FILE="+path)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	began := time.Now()
	_, err = Open(path, Config{OpenTimeout: 200 * time.Millisecond})
	assert.Less(t, time.Since(began), 10*time.Second)
	require.ErrorIs(t, err, saccount.ErrLocked)
	assert.ErrorContains(t, err, path)
	if runtime.GOOS == "linux" {
		assert.ErrorContains(t, err, fmt.Sprintf("process %d", cmd.Process.Pid))
		assert.ErrorContains(t, err, "boltstore.test")
	}
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	s := openAt(t, path, Config{})
	assert.NotNil(t, s)
}

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for _, c := range []Config{{OpenTimeout: -1}, {OpenTimeout: 48 * time.Hour}, {MaxRows: 1}, {MaxRows: -1}, {JournalBytes: 1}, {JournalBytes: math.MaxInt}, {MaxSize: -1}} {
		_, err := Open(path, c)
		require.ErrorIs(t, err, saccount.ErrInvalid, "%+v", c)
	}
	_, err := os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = New(nil, Config{})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	_, err = New(db, Config{})
	require.ErrorIs(t, err, saccount.ErrInvalid, "a handle without syncs")
	require.NoError(t, db.Close())
}

// A file from before there was an index of states gets it when it is opened.
func TestOpenOfFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(path, Config{})
	require.NoError(t, err)
	plant(t, s, "acme", "k1", "k2", "k3", "k4")
	change := func(s *Store, id string, do func(*saccount.Record)) {
		l, err := s.Lookup(ctx, "acme", saccount.KindKey, id)
		require.NoError(t, err)
		do(&l.Record)
		require.NoError(t, s.Write(ctx, saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{{Record: l.Record}}}))
	}
	change(s, "k2", func(r *saccount.Record) { r.Disabled = true })
	change(s, "k3", func(r *saccount.Record) { r.Deleted, r.Disabled = now, true })
	require.NoError(t, s.Close())
	bolt(t, path, func(tx *bbolt.Tx) error {
		require.NoError(t, tx.DeleteBucket(tabStates.name))
		return tabMeta.put(tx, metaFormat, binary.BigEndian.AppendUint16(append([]byte{}, magic...), 1))
	})
	for range 2 {
		s, err = Open(path, Config{})
		require.NoError(t, err)
		for _, off := range []bool{true, false} {
			change(s, "k4", func(r *saccount.Record) { r.Disabled = off })
		}
		problems, err := s.Check(ctx)
		require.NoError(t, err)
		assert.Empty(t, problems)
		for st, want := range map[saccount.Status]string{saccount.StatusDisabled: "k2", saccount.StatusDeleted: "k3"} {
			page, more, err := s.List(ctx, saccount.ListQuery{Kind: saccount.KindKey, Org: "acme", Statuses: []saccount.Status{st}, Limit: 10, Now: now})
			require.NoError(t, err)
			require.Len(t, page, 1)
			assert.Equal(t, want, page[0].ID)
			assert.False(t, more)
		}
		require.NoError(t, s.Close())
	}
	bolt(t, path, func(tx *bbolt.Tx) error { // so that no older version writes to it any more
		v, err := tabMeta.unseal(metaFormat, tx.Bucket(tabMeta.name).Get(metaFormat))
		assert.EqualValues(t, formatVersion, binary.BigEndian.Uint16(v[len(magic):]))
		return err
	})
}
