package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/saccount"
)

// A file is made beside its place, synced, and given its name only then: bbolt
// writes the first pages of a new file in place, and a power cut meanwhile
// leaves something that is neither empty nor a store. Nothing is ever put in
// the place of a file that another process made.

// ensure makes the file where there is none, or an empty one.
func ensure(path string, cfg Config, until time.Time) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w file: it is not a regular file", saccount.ErrInvalid)
	case info.Size() > 0:
		return nil
	default:
		return fillEmpty(path, cfg, until)
	}
	tmp, err := build(path, cfg, layout)
	if err != nil {
		return err
	}
	return place(tmp, path, true)
}

// build makes a file beside path, synced, with what fill puts into it.
func build(path string, cfg Config, fill func(tx *bbolt.Tx) error) (tmp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	tmp = f.Name()
	if err := f.Close(); err != nil {
		return "", errors.Join(err, os.Remove(tmp))
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: cfg.OpenTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true, NoSync: cfg.NoSyncForTests})
	if err == nil {
		err = errors.Join(db.Update(fill), db.Close())
	}
	if err == nil && !cfg.NoSyncForTests {
		err = syncFile(tmp)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(tmp))
	}
	return tmp, nil
}

// place gives a finished file its name. A file that is there already stays; mine
// says whether that is as good, or an error.
func place(tmp, path string, orTheirs bool) error {
	err := os.Link(tmp, path)
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		// No hard links here. An empty file takes the name without replacing
		// another, and the finished one takes its place.
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			if err = f.Close(); err == nil {
				err = os.Rename(tmp, path)
			}
		}
		there = errors.Is(err, fs.ErrExist)
	}
	if e := os.Remove(tmp); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
		err = e
	}
	if there && orTheirs {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes a new name durable. Windows knows no such thing.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
