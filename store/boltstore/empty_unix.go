//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package boltstore

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fillEmpty puts a new store in the place of an empty file, under the lock that
// bbolt takes: whoever had it open before, and filled it, is left alone.
func fillEmpty(path string, cfg Config, until time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock; nothing was written
	const pause = 20 * time.Millisecond
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("flock", err)
		}
		if time.Now().After(until) {
			return nil // opening will say who has it
		}
		time.Sleep(pause)
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mine.Size() != 0 || !os.SameFile(mine, now) {
		return nil // filled meanwhile
	}
	tmp, err := build(path, cfg, layout)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}
