package boltstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// What was answered is there after the file is opened again.
func Example() {
	dir, err := os.MkdirTemp("", "keypurse-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	for range 2 {
		st, err := boltstore.Open(filepath.Join(dir, "purse.db"), boltstore.Config{})
		if err != nil {
			fmt.Println(err)
			return
		}
		svc, err := saccount.New(st, saccount.Config{})
		if err != nil {
			fmt.Println(err)
			return
		}
		org, err := svc.GetOrg(ctx, "acme")
		if err != nil {
			org, err = svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{ID: "acme", Name: "Acme"})
		}
		fmt.Println(org.Name, org.Revision, err)
		_ = svc.Close() // before the store
		if err := st.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// Acme 1 <nil>
	// Acme 1 <nil>
}

// A consistent copy of a store in use.
func ExampleStore_Backup() {
	dir, err := os.MkdirTemp("", "keypurse-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := boltstore.Open(filepath.Join(dir, "purse.db"), boltstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	var copied bytes.Buffer
	n, err := st.Backup(context.Background(), &copied)
	fmt.Println(n == int64(copied.Len()), err)
	// Output: true <nil>
}
