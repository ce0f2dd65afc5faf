package memstore_test

import (
	"testing"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
}
