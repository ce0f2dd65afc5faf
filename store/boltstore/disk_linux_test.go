package boltstore

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// smallDisk mounts a file system of 8 MB, where the machine lets us.
func smallDisk(t *testing.T) (dir string, ok bool) {
	dir = t.TempDir()
	if err := syscall.Mount("keypurse-test", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Log("no file system of our own here:", err)
		return "", false
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir, true
}
