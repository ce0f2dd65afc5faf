package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/saccount"
)

// Backup writes a consistent copy of the whole file to w, as of the moment when
// it begins, while the Store goes on, and says how many bytes that were. The
// copy is a store that Open opens. Where it returns an error the copy is of no
// use. Where New made the Store, what the host keeps beside it is in the copy.
//
// While it runs, pages that are no longer needed are not used again: a slow w
// makes the file grow, and where it grows beyond the memory mapped for it (4 GiB
// at first where Open made the Store), who writes waits for the copy. w must not
// use the Store.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	if err := s.open(ctx, "backup"); err != nil {
		return 0, err
	}
	tx, err := s.snap()
	if err != nil {
		return 0, fmt.Errorf("boltstore: backup: %w", err)
	}
	defer tx.end()
	// The file is read, not the mapping: what w does is not ours to guard.
	out := &ctxWriter{ctx: ctx, w: w}
	if n, err = tx.WriteTo(out); err != nil {
		if out.err != nil {
			err = out.err // bbolt keeps its text alone
		}
		return n, fmt.Errorf("boltstore: backup: %w", err)
	}
	return n, nil
}

type ctxWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (c *ctxWriter) Write(b []byte) (n int, err error) {
	if c.err = c.ctx.Err(); c.err != nil {
		return 0, c.err
	}
	n, c.err = c.w.Write(b)
	return n, c.err
}

// Bounds of one transaction of a compacted copy.
const (
	compactRows  = 1 << 13
	compactBytes = 1 << 22
)

// Compact writes a copy of the Store without the room that is no longer used to
// a new file at path, while the Store goes on, as of the moment when it begins;
// only the Store's own buckets. The file is made like that of Open: it has its
// name only when all of it is on the disk, and a file that is there already is
// saccount.ErrExists. Every row is checked on the way: where one is damaged
// nothing is made.
//
// To put the copy in the Store's place, close the Store first.
func (s *Store) Compact(ctx context.Context, path string) error {
	if err := s.open(ctx, "compact"); err != nil {
		return err
	}
	if err := s.compact(ctx, path); err != nil {
		return fmt.Errorf("boltstore: compact to %s: %w", path, err)
	}
	return nil
}

func (s *Store) compact(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("there is a file: %w", saccount.ErrExists)
	}
	tmp, err := build(path, s.cfg, func(tx *bbolt.Tx) error { return nil })
	if err != nil {
		return err
	}
	if err := s.copyTo(ctx, tmp); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := place(tmp, path, false); err != nil {
		if errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("there is a file: %w", saccount.ErrExists)
		}
		return err
	}
	return nil
}

func (s *Store) copyTo(ctx context.Context, tmp string) error {
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: s.cfg.OpenTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true, NoSync: true})
	if err != nil {
		return err
	}
	err = s.view(func(src *snap) error {
		c := src.Cursor()
		for name, _ := c.Seek([]byte("keypurse/")); bytes.HasPrefix(name, []byte("keypurse/")); name, _ = c.Next() {
			t := tableOf(name)
			if err := s.copyTable(ctx, src, db, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil || s.cfg.NoSyncForTests {
		return err
	}
	return syncFile(tmp)
}

// tableOf is the table that a bucket's name says, or the journal's.
func tableOf(name []byte) *table {
	for _, t := range tables {
		if bytes.Equal(t.name, name) {
			return t
		}
	}
	t := *journalTag
	t.name = bytes.Clone(name)
	return &t
}

// copyTable copies a table in transactions of bounded size: bbolt splits pages
// only at the end of one.
func (s *Store) copyTable(ctx context.Context, src *snap, dst *bbolt.DB, t *table) error {
	for lo := []byte{0}; lo != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := lo
		err := dst.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(t.name)
			if err != nil {
				return err
			}
			b.FillPercent = 1 // in order
			rows, size := 0, 0
			lo = nil
			return t.scan(src, from, nil, func(k, v []byte) (bool, error) {
				if rows++; rows > compactRows || size > compactBytes {
					lo = bytes.Clone(k)
					return false, nil
				}
				size += len(k) + len(v)
				return true, b.Put(k, t.seal(k, bytes.Clone(v)))
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
