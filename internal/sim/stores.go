package sim

import (
	"fmt"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
)

// backend opens the store of one world, again and again.
type backend struct {
	open   func() (store.Store, error)
	close  func() error
	remove func()                   // of its files
	files  func() ([][]byte, error) // what lies on the disk; nil: nothing does
}

func newBackend(cfg Config, from int) (*backend, error) {
	switch cfg.Store {
	case "", "memory":
		s := memstore.New()
		return &backend{
			open:   func() (store.Store, error) { return s, nil },
			close:  func() error { return nil },
			remove: func() {},
		}, nil
	}
	return nil, fmt.Errorf("sim: store %q is not known; give memory or bolt", cfg.Store)
}
