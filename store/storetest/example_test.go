package storetest_test

import (
	"testing"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/storetest"
)

// A backend's own test file holds one function such as this.
func ExampleRun() {
	_ = func(t *testing.T) { // TestStore
		storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
	}
	// Output:
}
