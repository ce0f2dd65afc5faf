package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// guarded runs fn, which uses bbolt, and makes a panic of bbolt's over a
// damaged page, or a fault of the mapped file, an error that wraps
// quota.ErrCorrupt.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: a page of the file is damaged: %v", quota.ErrCorrupt, p)
		}
	}()
	return fn()
}

// snap is a read transaction, with the pages that proofs have looked at in it.
type snap struct {
	*bbolt.Tx
	s    *Store
	tree *tree
}

// snap begins one; end ends it. Close waits for those that are under way. Nobody
// takes mu between the two: who holds mu may be waiting, with the file about to
// be mapped anew, for every read transaction to end.
func (s *Store) snap() (*snap, error) {
	s.life.RLock()
	tx, err := (*bbolt.Tx)(nil), error(saccount.ErrClosed)
	if !s.gone {
		tx, err = s.db.Begin(false)
	}
	if err != nil {
		s.life.RUnlock()
		return nil, err
	}
	return &snap{tx, s, s.tree(tx)}, nil
}

func (x *snap) end() {
	_ = x.Rollback() // of a read transaction: nothing can be lost
	x.s.life.RUnlock()
}

// view runs fn in a read transaction.
func (s *Store) view(fn func(tx *snap) error) error {
	return guarded(func() error {
		tx, err := s.snap()
		if err != nil {
			return err
		}
		defer tx.end()
		return fn(tx)
	})
}

// update runs fn in a write transaction; the caller holds mu. Where it returns
// an error nothing was written, or, if the disk left that open, the Store is
// failed for good.
func (s *Store) update(fn func(tx *bbolt.Tx) error) error {
	if s.failed != nil {
		return s.failed
	}
	var tx *bbolt.Tx
	if err := guarded(func() (err error) { tx, err = s.db.Begin(true); return err }); err != nil {
		return err
	}
	if err := guarded(func() error { return fn(tx) }); err != nil {
		s.rollback(tx)
		return err
	}
	if err := guarded(tx.Commit); err != nil {
		s.rollback(tx)
		return s.refused(err)
	}
	s.writes++
	return nil
}

// rollback ends a transaction that did not commit, if bbolt has not done it.
func (s *Store) rollback(tx *bbolt.Tx) {
	err := guarded(tx.Rollback)
	if err == nil || errors.Is(err, berrors.ErrTxClosed) {
		return
	}
	s.stuck = true
	s.failed = fmt.Errorf("boltstore: the file is damaged and must be opened again: %w", err)
}

// refused tells a commit that was refused and changed nothing from one that
// leaves open what is on the disk.
func (s *Store) refused(err error) error {
	switch {
	case s.failed != nil:
		return s.failed
	case errors.Is(err, quota.ErrCorrupt):
		return err // before the first byte was written
	case noRoom(err):
		return fmt.Errorf("no room for the file to grow: nothing was changed; free some space and go on: %w", err)
	}
	s.failed = fmt.Errorf("boltstore: the disk failed and what is on it is not known; open the store again: %w", err)
	s.log.Error("boltstore: a commit failed; the store takes no more writes until it is opened again", "file", s.db.Path(), "error", err)
	return s.failed
}

// windowsDiskFull is ERROR_DISK_FULL.
const windowsDiskFull = syscall.Errno(112)

// noRoom reports whether a commit failed because the file could not grow. Then
// bbolt wrote no meta page, and the file is as before. An fsync that fails is
// never that: nobody knows what it lost.
func noRoom(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) || strings.HasPrefix(err.Error(), "file resize error") {
		return true
	}
	var p *fs.PathError
	if !errors.As(err, &p) || p.Op != "write" {
		return false
	}
	return errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT) || errors.Is(p.Err, syscall.EFBIG) ||
		runtime.GOOS == "windows" && errors.Is(p.Err, windowsDiskFull)
}
