//go:build !linux

package boltstore

import "testing"

// smallDisk has no file system of its own here.
func smallDisk(*testing.T) (dir string, ok bool) { return "", false }
