package memstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
}

// A Ledger gathers nothing before a store that waits for nothing.
func TestStoreIsDirect(t *testing.T) {
	assert.Implements(t, (*quota.Direct)(nil), memstore.New())
}

func ExampleNew() {
	ctx := context.Background()
	s := memstore.New()
	defer s.Close()

	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	org := saccount.Record{Kind: saccount.KindOrg, Org: "acme", ID: "acme", Name: "Acme", Created: now}
	err := s.Write(ctx, saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{{Record: org}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := s.Lookup(ctx, "acme", saccount.KindOrg, "acme")
	fmt.Println(found.Record.Name, found.Record.Revision, err)
	// Output: Acme 1 <nil>
}
