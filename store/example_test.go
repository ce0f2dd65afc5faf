package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/memstore"
)

// What stands on a Store does not know which it is.
func Example() {
	dir, err := os.MkdirTemp("", "keypurse-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	bolt, err := boltstore.Open(filepath.Join(dir, "purse.db"), boltstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, st := range []store.Store{memstore.New(), bolt} {
		svc, err := saccount.New(st, saccount.Config{})
		if err != nil {
			fmt.Println(err)
			return
		}
		org, err := svc.CreateOrg(context.Background(), "user:alice", saccount.OrgSpec{ID: "acme", Name: "Acme"})
		fmt.Println(org.Name, err, svc.Close(), st.Close())
	}
	// Output:
	// Acme <nil> <nil> <nil>
	// Acme <nil> <nil> <nil>
}
