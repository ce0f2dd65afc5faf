package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const (
	actor       = saccount.Actor("quickstart")
	orgID       = "acme"
	accountName = "Production Worker"
	keyName     = "Production API Key - Backend Service"
)

// setUp makes the organization, the account and the key on the first start,
// and another key where one is asked for.
func setUp(ctx context.Context, svc *saccount.Service, out io.Writer, url, newKey string) error {
	account, err := worker(ctx, svc)
	if err != nil {
		return err
	}
	name := newKey
	if name == "" {
		keys, err := svc.ListKeys(ctx, orgID, account.ID, saccount.Filter{Limit: 1})
		if err != nil {
			return err
		}
		if len(keys.Items) > 0 {
			fmt.Fprintf(out, "The key %s was shown once, when it was made. For another: go run ./examples/quickstart -new-key NAME\n", keys.Items[0].Masked)
			return nil
		}
		name = keyName
	}
	token, key, err := svc.CreateKey(ctx, actor, orgID, account.ID, saccount.KeySpec{Name: name})
	if errors.Is(err, saccount.ErrExists) {
		return fmt.Errorf("a key named %q is there already; choose another name: %w", name, err)
	}
	if err != nil {
		return err
	}
	for _, advice := range key.Advice {
		fmt.Fprintln(out, "Advice:", advice)
	}
	show(out, token, url)
	return nil
}

// worker is the service account of the quickstart, made where it is not there.
func worker(ctx context.Context, svc *saccount.Service) (saccount.Account, error) {
	_, err := svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: orgID, Name: "Acme"})
	if err != nil && !errors.Is(err, saccount.ErrExists) {
		return saccount.Account{}, err
	}
	for a, err := range svc.Accounts(ctx, orgID, saccount.Filter{NamePrefix: accountName}) {
		if err != nil {
			return saccount.Account{}, err
		}
		if a.Name == accountName {
			return a, nil
		}
	}
	return svc.CreateAccount(ctx, actor, orgID, saccount.AccountSpec{
		Name:        accountName,
		Description: "Counts words around the clock.",
		Limits:      saccount.Limits{"": saccount.NewLimit(500*quota.Credit, quota.Period{Unit: quota.Month})},
	})
}

// show prints the token, this once, with commands that work when pasted.
func show(out io.Writer, token apikey.Token, url string) {
	fmt.Fprintf(out, `This key is shown once. Copy it now:

export KEYPURSE_TOKEN=%s
curl -s -d 'to be or not to be' -H "Authorization: Bearer $KEYPURSE_TOKEN" %s/v1/words
curl -s -H "Authorization: Bearer $KEYPURSE_TOKEN" %s/v1/me
`, token.Reveal(), url, url)
}
