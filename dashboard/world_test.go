package dashboard_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// tenant is an organization with one of everything in it.
type tenant struct {
	org, account, key, member, manage string
	token, manageToken                string
}

// world is a kit with two organizations that are alike, and the host's own
// management key.
type world struct {
	*kit
	acme, globex       tenant
	hostKey, hostToken string
}

const setup = saccount.Actor("setup")

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, dashboard.Config{})
}

func newWorldWith(t *testing.T, cfg dashboard.Config) *world {
	t.Helper()
	w := &world{kit: newKit(t, cfg)}
	_, err := w.Service.CreateOrg(t.Context(), setup, saccount.OrgSpec{ID: "globex", Name: "Globex"})
	require.NoError(t, err)
	w.acme, w.globex = w.tenant("acme"), w.tenant("globex")
	token, k, err := w.Service.CreateManagementKey(t.Context(), setup, saccount.HostPartition, saccount.ManagementKeySpec{Name: "Billing", Role: saccount.RoleAdmin})
	require.NoError(t, err)
	w.hostKey, w.hostToken = k.ID, token.Reveal()
	return w
}

func (w *world) tenant(org string) tenant {
	w.t.Helper()
	ctx, svc := w.t.Context(), w.Service
	limits := func() saccount.Limits {
		return saccount.Limits{"": saccount.NewLimit(1000*quota.Credit, quota.Period{Unit: quota.Month})}
	}
	_, err := svc.UpdateOrg(ctx, setup, org, saccount.Update{Limits: limits()})
	require.NoError(w.t, err)
	a, err := svc.CreateAccount(ctx, setup, org, saccount.AccountSpec{Name: "Production Worker", Limits: limits()})
	require.NoError(w.t, err)
	token, k, err := svc.CreateKey(ctx, setup, org, a.ID, saccount.KeySpec{Name: "Backend", Limits: limits()})
	require.NoError(w.t, err)
	m, err := svc.CreateMember(ctx, setup, org, saccount.MemberSpec{ID: "ann", Limits: limits()})
	require.NoError(w.t, err)
	manage, mk, err := svc.CreateManagementKey(ctx, setup, org, saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleManage})
	require.NoError(w.t, err)
	p, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	require.NoError(w.t, err)
	_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 5 * quota.Credit, ID: org + "-charge"})
	require.NoError(w.t, err)
	_, _, err = svc.Reserve(ctx, p, saccount.Reserve{Amount: 5 * quota.Credit, TTL: time.Hour, ID: org + "-hold"})
	require.NoError(w.t, err)
	_, _, err = svc.RotateKey(ctx, setup, org, k.ID, time.Hour) // so that there is something to cancel
	require.NoError(w.t, err)
	return tenant{org, a.ID, k.ID, m.ID, mk.ID, token.Reveal(), manage.Reveal()}
}

// operation is one of the API, as its document says.
type operation struct{ method, path, id string }

func (w *world) operations() []operation {
	w.t.Helper()
	doc := w.do(staff, "GET", "openapi.json", "").ok(200)
	var out []operation
	for path, methods := range doc["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			out = append(out, operation{strings.ToUpper(method), strings.TrimPrefix(path, "/"), op.(map[string]any)["operationId"].(string)})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// request is a good request of an operation to an organization.
func (w *world) request(op operation, x tenant) (path, body string) {
	id := x.account
	switch {
	case strings.HasPrefix(op.path, "orgs/{org}/keys"):
		id = x.key
	case strings.HasPrefix(op.path, "orgs/{org}/members"):
		id = x.member
	case strings.HasPrefix(op.path, "orgs/{org}/management-keys"):
		id = x.manage
	case strings.HasPrefix(op.path, "management-keys"):
		id = w.hostKey
	}
	path = strings.NewReplacer("{org}", x.org, "{id}", id, "{limit}", "credits").Replace(op.path)
	if strings.HasPrefix(op.id, "getUsage") {
		path += "?from=2030-01-01T00:00:00Z&to=2030-02-01T00:00:00Z"
	}
	until := w.Now().Add(time.Hour).Format(time.RFC3339)
	switch name := op.id; {
	case op.method == "PATCH":
		body = `{"name":"Renamed"}`
	case op.method == "PUT":
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
	case strings.HasPrefix(name, "create"):
		body = `{"name":"New"}`
	case name == "verify":
		body = fmt.Sprintf(`{"token":%q}`, x.token)
	case name == "charge":
		body = fmt.Sprintf(`{"token":%q,"amount":"1"}`, x.token)
	case name == "reserve":
		body = fmt.Sprintf(`{"token":%q,"amount":"1","ttl_seconds":60}`, x.token)
	case name == "commit":
		body = fmt.Sprintf(`{"of":"%s-hold","amount":"1"}`, x.org)
	case name == "release":
		body = fmt.Sprintf(`{"of":"%s-hold"}`, x.org)
	case name == "renew":
		body = fmt.Sprintf(`{"of":"%s-hold","ttl_seconds":60}`, x.org)
	case name == "refund":
		body = fmt.Sprintf(`{"of":"%s-charge","amount":"1"}`, x.org)
	}
	return path, body
}

// send sends a good request of an operation.
func (w *world) send(by who, op operation, x tenant, headers ...string) answer {
	w.t.Helper()
	path, body := w.request(op, x)
	if op.method == http.MethodPatch {
		headers = append(headers, "If-Match", "*")
	}
	return w.do(by, op.method, path, body, headers...)
}
