// Package apiworld is what tests of the management API ask about: two
// organizations that are alike, with one of everything, and a good request of
// every operation.
package apiworld

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// Tenant is an organization with one of everything in it.
type Tenant struct {
	Org, Account, Key, Member, Manage, Recipient string // ids
	Token, ManageToken                           string
}

// World is a Service with organizations acme and globex, and a management key
// of the host.
type World struct {
	*saccounttest.Harness
	Acme, Globex       Tenant
	HostKey, HostToken string

	t testing.TB
}

const actor = saccount.Actor("setup")

// New makes a World. What goes wrong fails the test.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{t: t, Harness: saccounttest.New(t, saccount.Config{
		Secrets: []saccount.Secret{{ID: "one", Key: bytes.Repeat([]byte{1}, 32)}},
		Alerts:  saccount.Alerts{Email: func(context.Context, alert.Email) error { return nil }},
	})}
	_, err := w.Service.CreateOrg(t.Context(), actor, saccount.OrgSpec{ID: "globex", Name: "Globex"})
	require.NoError(t, err)
	w.Acme, w.Globex = w.tenant("acme"), w.tenant("globex")
	token, k, err := w.Service.CreateManagementKey(t.Context(), actor, saccount.HostPartition, saccount.ManagementKeySpec{Name: "Billing", Role: saccount.RoleAdmin})
	require.NoError(t, err)
	w.HostKey, w.HostToken = k.ID, token.Reveal()
	return w
}

func (w *World) tenant(org string) Tenant {
	w.t.Helper()
	ctx, svc := w.t.Context(), w.Service
	limits := func() saccount.Limits {
		return saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month})}
	}
	_, err := svc.UpdateOrg(ctx, actor, org, saccount.Update{Limits: limits()})
	require.NoError(w.t, err)
	a, err := svc.CreateAccount(ctx, actor, org, saccount.AccountSpec{Name: "Production Worker", Limits: limits()})
	require.NoError(w.t, err)
	token, k, err := svc.CreateKey(ctx, actor, org, a.ID, saccount.KeySpec{Name: "Backend", Limits: limits()})
	require.NoError(w.t, err)
	m, err := svc.CreateMember(ctx, actor, org, saccount.MemberSpec{ID: "ann", Limits: limits()})
	require.NoError(w.t, err)
	manage, mk, err := svc.CreateManagementKey(ctx, actor, org, saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleManage})
	require.NoError(w.t, err)
	p, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	require.NoError(w.t, err)
	_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 5 * quota.Credit, ID: org + "-charge"})
	require.NoError(w.t, err)
	_, _, err = svc.Reserve(ctx, p, saccount.Reserve{Amount: 5 * quota.Credit, TTL: time.Hour, ID: org + "-hold"})
	require.NoError(w.t, err)
	_, _, err = svc.RotateKey(ctx, actor, org, k.ID, time.Hour) // so that there is something to cancel
	require.NoError(w.t, err)
	mail, err := svc.AddRecipient(ctx, actor, org, saccount.RecipientSpec{Name: "Operations", Email: "operations@example.com"})
	require.NoError(w.t, err)
	require.NoError(w.t, svc.TestAlert(ctx, actor, org, mail.ID))
	require.NoError(w.t, svc.DeliverAlerts(ctx))
	hook, err := svc.AddRecipient(ctx, actor, org, saccount.RecipientSpec{Name: "Pager", URL: "https://pager.example.com/in/" + org})
	require.NoError(w.t, err)
	return Tenant{org, a.ID, k.ID, m.ID, mk.ID, hook.ID, token.Reveal(), manage.Reveal()}
}

// Operation is one of the API, as its document says.
type Operation struct{ Method, Path, ID string }

// Request is a good request of an operation to an organization: its path below
// api/v1, and its body.
func (w *World) Request(op Operation, x Tenant) (path, body string) {
	id := x.Account
	switch {
	case strings.HasPrefix(op.Path, "orgs/{org}/keys"):
		id = x.Key
	case strings.HasPrefix(op.Path, "orgs/{org}/members"):
		id = x.Member
	case strings.HasPrefix(op.Path, "orgs/{org}/management-keys"):
		id = x.Manage
	case strings.HasPrefix(op.Path, "orgs/{org}/recipients"):
		id = x.Recipient
	case strings.HasPrefix(op.Path, "management-keys"):
		id = w.HostKey
	}
	path = strings.NewReplacer("{org}", x.Org, "{id}", id, "{limit}", "credits").Replace(op.Path)
	if strings.HasPrefix(op.ID, "getUsage") || op.ID == "exportUsage" {
		path += "?from=2030-01-01T00:00:00Z&to=2030-02-01T00:00:00Z"
	}
	until := w.Now().Add(time.Hour).Format(time.RFC3339)
	switch name := op.ID; {
	case op.Method == http.MethodPatch:
		body = `{"name":"Renamed"}`
	case name == "setKeyPolicy":
		body = `{"unused_days":30}`
	case name == "reportLeak":
		body = fmt.Sprintf(`{"token":%q,"source":"a scanner","url":"https://example.com/leaked"}`, x.Token)
	case op.Method == http.MethodPut:
		body = `{"max":"7"}`
	case strings.HasPrefix(name, "rotate"):
		body = `{"overlap_seconds":60}`
	case strings.HasPrefix(name, "topUp"):
		body = `{"amount":"1"}`
	case strings.HasPrefix(name, "raise"):
		body = `{"max":"2000","until":"` + until + `"}`
	case name == "createMember":
		body = `{"id":"bob"}`
	case strings.HasSuffix(name, "ManagementKey") && strings.HasPrefix(name, "create"):
		body = `{"name":"New","role":"view"}`
	case name == "createRecipient":
		body = `{"url":"https://hooks.example.com/in","filter":{"kinds":["overage"],"subjects":["key:"]}}`
	case strings.HasPrefix(name, "create"):
		body = `{"name":"New"}`
	case name == "verify":
		body = fmt.Sprintf(`{"token":%q}`, x.Token)
	case name == "charge":
		body = fmt.Sprintf(`{"token":%q,"amount":"1"}`, x.Token)
	case name == "reserve":
		body = fmt.Sprintf(`{"token":%q,"amount":"1","ttl_seconds":60}`, x.Token)
	case name == "commit":
		body = fmt.Sprintf(`{"of":"%s-hold","amount":"1"}`, x.Org)
	case name == "release":
		body = fmt.Sprintf(`{"of":"%s-hold"}`, x.Org)
	case name == "renew":
		body = fmt.Sprintf(`{"of":"%s-hold","ttl_seconds":60}`, x.Org)
	case name == "refund":
		body = fmt.Sprintf(`{"of":"%s-charge","amount":"1"}`, x.Org)
	}
	return path, body
}
