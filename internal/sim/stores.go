package sim

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/memstore"
)

// backend opens the store of one world, again and again.
type backend struct {
	open   func() (store.Store, error)
	close  func() error
	remove func()                   // of its files
	files  func() ([][]byte, error) // what lies on the disk; nil: nothing does
}

// newBackend makes the store of the world that begins at a step. tight makes it
// forget and write out as often as it can.
func newBackend(cfg Config, from int, tight bool, log *slog.Logger) (*backend, error) {
	switch cfg.Store {
	case "memory":
		s := memstore.New()
		return &backend{
			open:   func() (store.Store, error) { return s, nil },
			close:  func() error { return nil },
			remove: func() {},
		}, nil
	case "bolt":
		path := filepath.Join(cfg.Dir, fmt.Sprintf("sim-%d-%d.db", cfg.Seed, from))
		bolt := boltstore.Config{Logger: log}
		if tight {
			bolt.MaxRows, bolt.JournalBytes = 256, 4096
		}
		b := &backend{}
		b.open = func() (store.Store, error) {
			s, err := boltstore.Open(path, bolt)
			if err != nil {
				return nil, err
			}
			b.close = s.Close
			return s, nil
		}
		b.remove = func() { _ = os.Remove(path) } // the directory goes anyway
		b.files = func() ([][]byte, error) {
			data, err := os.ReadFile(path)
			return [][]byte{data}, err
		}
		return b, os.RemoveAll(path)
	}
	return nil, fmt.Errorf("sim: store %q is not known; give memory or bolt", cfg.Store)
}
