package boltstore

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also the child that some tests kill.
func TestMain(m *testing.M) {
	if path := os.Getenv("KEYPURSE_CHILD"); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}
