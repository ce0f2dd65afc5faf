package memstore_test

import (
	"context"
	"fmt"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

func Example() {
	st := memstore.New()
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
