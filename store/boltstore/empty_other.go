//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package boltstore

import (
	"fmt"
	"time"

	"github.com/keypurse/keypurse/saccount"
)

// fillEmpty refuses: without flock nobody knows who else is about to fill it.
func fillEmpty(string, Config, time.Time) error {
	return fmt.Errorf("%w file: it is empty; remove it and a new store is made", saccount.ErrInvalid)
}
