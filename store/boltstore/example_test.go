package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

// A service keeps its accounts, keys and credits in one file.
func Example() {
	dir, err := os.MkdirTemp("", "keypurse")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := boltstore.Open(filepath.Join(dir, "keypurse.db"), boltstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	svc, err := saccount.New(st, saccount.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close() // before the store
	org, err := svc.CreateOrg(context.Background(), "user:alice", saccount.OrgSpec{ID: "acme", Name: "Acme"})
	fmt.Println(org.Name, err)
	// Output: Acme <nil>
}

// A backup is taken while the store is in use. Sync it before it replaces an
// older one.
func ExampleStore_Backup() {
	dir, err := os.MkdirTemp("", "keypurse")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := boltstore.Open(filepath.Join(dir, "keypurse.db"), boltstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	f, err := os.OpenFile(filepath.Join(dir, "backup.db"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	n, err := st.Backup(context.Background(), f)
	fmt.Println(n > 0, err, f.Sync())
	// Output: true <nil> <nil>
}
