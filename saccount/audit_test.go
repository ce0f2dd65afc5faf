package saccount_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// recorder is a store that tells what was written.
type recorder struct {
	*memstore.Store
	batches []saccount.Batch
}

func (r *recorder) Write(ctx context.Context, b saccount.Batch) error {
	err := r.Store.Write(ctx, b)
	if err == nil {
		r.batches = append(r.batches, b)
	}
	return err
}

// manage calls every management call of a Service once, by name.
func manage(svc *saccount.Service, id map[string]string) map[string]func(context.Context, saccount.Actor) error {
	name := func(s string) saccount.Update { return saccount.Update{Name: &s} }
	limits := saccount.Limits{"": saccount.NewLimit(10*quota.Credit, monthly)}
	return map[string]func(context.Context, saccount.Actor) error{
		"CreateOrg": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.CreateOrg(ctx, a, saccount.OrgSpec{ID: "acme"})
			return err
		},
		"UpdateOrg": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.UpdateOrg(ctx, a, "acme", name("Acme"))
			return err
		},
		"DisableOrg": func(ctx context.Context, a saccount.Actor) error { return svc.DisableOrg(ctx, a, "acme") },
		"EnableOrg":  func(ctx context.Context, a saccount.Actor) error { return svc.EnableOrg(ctx, a, "acme") },
		"DeleteOrg":  func(ctx context.Context, a saccount.Actor) error { return svc.DeleteOrg(ctx, a, "acme") },
		"CreateAccount": func(ctx context.Context, a saccount.Actor) error {
			x, err := svc.CreateAccount(ctx, a, "acme", saccount.AccountSpec{Name: "Worker", Limits: limits})
			if err == nil {
				id["account"] = x.ID
			}
			return err
		},
		"UpdateAccount": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.UpdateAccount(ctx, a, "acme", id["account"], name("Worker 2"))
			return err
		},
		"DisableAccount": func(ctx context.Context, a saccount.Actor) error {
			return svc.DisableAccount(ctx, a, "acme", id["account"])
		},
		"EnableAccount": func(ctx context.Context, a saccount.Actor) error {
			return svc.EnableAccount(ctx, a, "acme", id["account"])
		},
		"DeleteAccount": func(ctx context.Context, a saccount.Actor) error {
			return svc.DeleteAccount(ctx, a, "acme", id["account"])
		},
		"CreateMember": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.CreateMember(ctx, a, "acme", saccount.MemberSpec{ID: "ann"})
			return err
		},
		"UpdateMember": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.UpdateMember(ctx, a, "acme", "ann", name("Ann"))
			return err
		},
		"DisableMember": func(ctx context.Context, a saccount.Actor) error { return svc.DisableMember(ctx, a, "acme", "ann") },
		"EnableMember":  func(ctx context.Context, a saccount.Actor) error { return svc.EnableMember(ctx, a, "acme", "ann") },
		"DeleteMember":  func(ctx context.Context, a saccount.Actor) error { return svc.DeleteMember(ctx, a, "acme", "ann") },
		"CreateKey": func(ctx context.Context, a saccount.Actor) error {
			t, x, err := svc.CreateKey(ctx, a, "acme", id["account"], saccount.KeySpec{Name: "Backend"})
			if err == nil {
				id["key"], id["token"] = x.ID, t.Reveal()
			}
			return err
		},
		"UpdateKey": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.UpdateKey(ctx, a, "acme", id["key"], name("Backend 2"))
			return err
		},
		"DisableKey": func(ctx context.Context, a saccount.Actor) error { return svc.DisableKey(ctx, a, "acme", id["key"]) },
		"EnableKey":  func(ctx context.Context, a saccount.Actor) error { return svc.EnableKey(ctx, a, "acme", id["key"]) },
		"DeleteKey":  func(ctx context.Context, a saccount.Actor) error { return svc.DeleteKey(ctx, a, "acme", id["key"]) },
		"RotateKey": func(ctx context.Context, a saccount.Actor) error {
			t, _, err := svc.RotateKey(ctx, a, "acme", id["key"], time.Hour)
			if err == nil {
				id["token2"] = t.Reveal()
			}
			return err
		},
		"CancelRotation": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.CancelRotation(ctx, a, "acme", id["key"])
			return err
		},
		"TopUp": func(ctx context.Context, a saccount.Actor) error {
			return svc.TopUp(ctx, a, "acme", saccount.KindAccount, id["account"], saccount.TopUp{Amount: quota.Credit})
		},
		"RaiseLimit": func(ctx context.Context, a saccount.Actor) error {
			return svc.RaiseLimit(ctx, a, "acme", saccount.KindAccount, id["account"], "", 20*quota.Credit, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
		},
		"CreateManagementKey": func(ctx context.Context, a saccount.Actor) error {
			t, x, err := svc.CreateManagementKey(ctx, a, "acme", saccount.ManagementKeySpec{Name: "Terraform", Role: saccount.RoleManage})
			if err == nil {
				id["management"], id["token3"] = x.ID, t.Reveal()
			}
			return err
		},
		"UpdateManagementKey": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.UpdateManagementKey(ctx, a, "acme", id["management"], name("Terraform 2"))
			return err
		},
		"DisableManagementKey": func(ctx context.Context, a saccount.Actor) error {
			return svc.DisableManagementKey(ctx, a, "acme", id["management"])
		},
		"EnableManagementKey": func(ctx context.Context, a saccount.Actor) error {
			return svc.EnableManagementKey(ctx, a, "acme", id["management"])
		},
		"DeleteManagementKey": func(ctx context.Context, a saccount.Actor) error {
			return svc.DeleteManagementKey(ctx, a, "acme", id["management"])
		},
		"RotateManagementKey": func(ctx context.Context, a saccount.Actor) error {
			t, _, err := svc.RotateManagementKey(ctx, a, "acme", id["management"], time.Hour)
			if err == nil {
				id["token4"] = t.Reveal()
			}
			return err
		},
		"AddRecipient": func(ctx context.Context, a saccount.Actor) error {
			r, err := svc.AddRecipient(ctx, a, "acme", saccount.RecipientSpec{Name: "Ops", URL: "https://example.com/hook"})
			if err == nil {
				id["recipient"] = r.ID
			}
			return err
		},
		"UpdateRecipient": func(ctx context.Context, a saccount.Actor) error {
			n := "Operations"
			_, err := svc.UpdateRecipient(ctx, a, "acme", id["recipient"], saccount.RecipientUpdate{Name: &n})
			return err
		},
		"RemoveRecipient": func(ctx context.Context, a saccount.Actor) error {
			return svc.RemoveRecipient(ctx, a, "acme", id["recipient"])
		},
		"RotateWebhookSecret": func(ctx context.Context, a saccount.Actor) error {
			return svc.RotateWebhookSecret(ctx, a, "acme", id["recipient"], time.Hour)
		},
		"TestAlert": func(ctx context.Context, a saccount.Actor) error { return svc.TestAlert(ctx, a, "acme", "") },
		"ReplayRecipient": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.ReplayRecipient(ctx, a, "acme", id["recipient"])
			return err
		},
		"CutAudit": func(ctx context.Context, a saccount.Actor) error {
			_, err := svc.CutAudit(ctx, a, "acme", saccount.CutAudit{Before: time.Date(2026, 3, 10, 12, 0, 2, 0, time.UTC)})
			return err
		},
	}
}

// order is one in which all of them go well.
var order = strings.Fields(`CreateOrg UpdateOrg CreateAccount UpdateAccount CreateMember UpdateMember CreateKey UpdateKey TopUp RaiseLimit
	RotateKey CancelRotation DisableKey EnableKey DisableMember EnableMember DisableAccount EnableAccount DisableOrg EnableOrg AddRecipient UpdateRecipient RotateWebhookSecret TestAlert ReplayRecipient RemoveRecipient CutAudit
	CreateManagementKey UpdateManagementKey RotateManagementKey DisableManagementKey EnableManagementKey DeleteManagementKey
	DeleteKey DeleteMember DeleteAccount DeleteOrg`)

// Every call that takes an Actor, whichever there are, writes once, and its
// entry with it.
func TestEveryManagementCallIsAudited(t *testing.T) {
	rec := &recorder{Store: memstore.New()}
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	svc, err := saccount.New(rec, saccount.Config{Now: func() time.Time { return now }, Secrets: []saccount.Secret{{ID: "a", Key: key32('a')}}})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	id := map[string]string{}
	calls := manage(svc, id)
	typ := reflect.TypeFor[*saccount.Service]()
	var want []string
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		for in := range m.Type.NumIn() {
			if m.Type.In(in) == reflect.TypeFor[saccount.Actor]() && m.Name != "SettleBlock" { // its entry goes before: see there
				want = append(want, m.Name)
			}
		}
	}
	got := slices.Clone(order)
	slices.Sort(got)
	require.Equal(t, want, got, "a call that takes an Actor is missing here")

	ctx := saccount.WithOrigin(t.Context(), saccount.Origin{Request: "req-1\n\u202e<b>", Addr: netip.MustParseAddr("::ffff:192.0.2.7")})
	for _, name := range order {
		rec.batches = nil
		actor := saccount.Actor("user:" + name)
		now = now.Add(time.Second)
		require.NoError(t, calls[name](ctx, actor), name)
		require.Len(t, rec.batches, 1, "%s is one step", name)
		b := rec.batches[0]
		require.Len(t, b.Audit, 1, name)
		p, err := svc.Audit(t.Context(), "acme", saccount.AuditFilter{Newest: true, Limit: 1})
		require.NoError(t, err)
		e := p.Items[0]
		assert.Equal(t, actor, e.Actor)
		assert.Equal(t, now, e.At)
		assert.Equal(t, "acme", e.Org)
		assert.Equal(t, "req-1<b>", e.Request, "what a client's header brings is cleaned")
		assert.Equal(t, "192.0.2.7", e.Addr)
		assert.NotEmpty(t, e.After)
		assert.NotEmpty(t, e.Mark)
		assert.Equal(t, strings.HasPrefix(name, "Create") || name == "CutAudit" || name == "TestAlert" || name == "ReplayRecipient", e.Before == nil, name)
		for _, token := range []string{id["token"], id["token2"], id["token3"], id["token4"]} {
			if token != "" {
				assert.NotContains(t, fmt.Sprint(b.Audit)+string(b.Audit[0].Data), token[len(token)-49:len(token)-6])
			}
		}
		assert.NotContains(t, string(b.Audit[0].Data), "hash")
		require.ErrorIs(t, calls[name](ctx, ""), saccount.ErrInvalid, "%s without an actor", name)
	}
	v, err := svc.Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
	assert.Equal(t, int64(len(order)), v.Through+v.Entries)
}

// many makes an organization with n members, by two actors, a minute apart.
func many(t *testing.T, w *world, n int) {
	t.Helper()
	for i := range n {
		w.now = w.now.Add(time.Minute)
		actor := saccount.Actor("user:alice")
		if i%10 == 9 {
			actor = "user:bob"
		}
		_, err := w.CreateMember(t.Context(), actor, "acme", saccount.MemberSpec{ID: fmt.Sprint("m", i)})
		require.NoError(t, err)
	}
}

func collect(t *testing.T, seq iter.Seq2[saccount.AuditEntry, error]) (out []saccount.AuditEntry) {
	t.Helper()
	for e, err := range seq {
		require.NoError(t, err)
		out = append(out, e)
	}
	return out
}

func TestAuditIsPagedAndFiltered(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	start := w.now
	many(t, w, 250)
	numbers := func(f saccount.AuditFilter) (out []int64) {
		for _, e := range collect(t, w.AuditEntries(t.Context(), "acme", f)) {
			out = append(out, e.Seq)
		}
		return out
	}
	upto := func(from, to int64) (out []int64) {
		for ; from <= to; from++ {
			out = append(out, from)
		}
		return out
	}
	for _, page := range []int{1, 7, 100, 1000} {
		want := upto(1, 251)
		assert.Equal(t, want, numbers(saccount.AuditFilter{Limit: page}))
		slices.Reverse(want)
		assert.Equal(t, want, numbers(saccount.AuditFilter{Limit: page, Newest: true}))
		assert.Len(t, numbers(saccount.AuditFilter{Limit: page, Actor: "user:bob"}), 25)
		assert.Len(t, numbers(saccount.AuditFilter{Limit: page, Actor: "user:bob", Newest: true}), 25)
		assert.Equal(t, []int64{251}, numbers(saccount.AuditFilter{Limit: page, Subject: "member:m249"}))
		assert.Equal(t, []int64{1}, numbers(saccount.AuditFilter{Limit: page, Subject: "org:acme", Newest: true}))
		assert.Empty(t, numbers(saccount.AuditFilter{Limit: page, Action: "delete"}))
		assert.Equal(t, upto(11, 20), numbers(saccount.AuditFilter{Limit: page, From: start.Add(10 * time.Minute), To: start.Add(20 * time.Minute)}))
	}
	n, err := w.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: start.Add(100 * time.Minute)})
	require.NoError(t, err)
	assert.Equal(t, int64(100), n)
	want := upto(101, 252)
	assert.Equal(t, want, numbers(saccount.AuditFilter{}))
	slices.Reverse(want)
	assert.Equal(t, want, numbers(saccount.AuditFilter{Newest: true, Limit: 9}))
	assert.Equal(t, upto(101, 252), numbers(saccount.AuditFilter{Cursor: "50"}), "a cursor from before the cut")
	for _, bad := range []saccount.AuditFilter{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {Cursor: "-1"}} {
		_, err := w.Audit(t.Context(), "acme", bad)
		require.ErrorIs(t, err, saccount.ErrInvalid)
	}
	p, err := w.Audit(t.Context(), "nobody", saccount.AuditFilter{})
	require.NoError(t, err)
	assert.Empty(t, p.Items)
}

// A cut of more than a step's entries goes on where the last step ended, and
// the log of what is left verifies.
func TestCutAuditInSteps(t *testing.T) {
	w := newWorld(t, saccount.Config{Secrets: []saccount.Secret{{ID: "a", Key: key32('a')}}})
	many(t, w, 2500)
	n, err := w.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: w.now})
	require.NoError(t, err)
	assert.Equal(t, int64(2500), n)
	v, err := w.Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
	assert.Equal(t, [2]int64{2500, 2}, [2]int64{v.Through, v.Entries}, "the last member, and the cut itself")
	n, err = w.CutAudit(t.Context(), by, "acme", saccount.CutAudit{Before: w.now})
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = w.CutAudit(t.Context(), by, "acme", saccount.CutAudit{})
	require.ErrorIs(t, err, saccount.ErrInvalid)
	_, err = w.CutAudit(t.Context(), by, "nobody", saccount.CutAudit{Before: w.now})
	require.ErrorIs(t, err, saccount.ErrNotFound)
}

// Several Services, as several processes have them, chain one log.
func TestAuditIsOneChain(t *testing.T) {
	st := memstore.New()
	secrets := []saccount.Secret{{ID: "2029", Key: key32('a')}, {ID: "2030", Key: key32('b')}}
	var all []*saccount.Service
	for i := range 4 {
		svc, err := saccount.New(st, saccount.Config{Secrets: secrets[:1+i%2]}) // a roll-out of a new secret
		require.NoError(t, err)
		defer func() { require.NoError(t, svc.Close()) }()
		all = append(all, svc)
	}
	_, err := all[0].CreateOrg(t.Context(), by, saccount.OrgSpec{ID: "acme"})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i, svc := range all {
		wg.Go(func() {
			for j := range 100 {
				_, err := svc.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: fmt.Sprint(i, ".", j)})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	v, err := all[1].Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
	assert.Equal(t, int64(401), v.Entries)
	head, err := all[1].AuditHead(t.Context(), "acme")
	require.NoError(t, err)
	assert.Equal(t, v.Head, head)
	v, err = all[0].Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.NotNil(t, v.Bad)
	assert.Equal(t, saccount.BreachSecret, v.Bad.Kind, "a secret that was taken out")
}

// A host that begins to use secrets says whether it still takes what it wrote
// without.
func TestVerifyUnkeyed(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	many(t, w, 4)
	v, err := w.Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
	assert.Equal(t, [2]int64{5, 5}, [2]int64{v.Entries, v.Unkeyed})
	keyed, err := saccount.New(w.store, saccount.Config{Secrets: []saccount.Secret{{ID: "a", Key: key32('a')}}})
	require.NoError(t, err)
	defer func() { require.NoError(t, keyed.Close()) }()
	_, err = keyed.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: "keyed"})
	require.NoError(t, err)
	v, err = keyed.Verify(t.Context(), "acme", saccount.Verify{})
	require.NoError(t, err)
	require.NotNil(t, v.Bad)
	assert.Equal(t, [2]any{saccount.BreachUnkeyed, int64(1)}, [2]any{v.Bad.Kind, v.Bad.Seq})
	v, err = keyed.Verify(t.Context(), "acme", saccount.Verify{Unkeyed: true})
	require.NoError(t, err)
	require.Nil(t, v.Bad)
	assert.Equal(t, [2]int64{6, 5}, [2]int64{v.Entries, v.Unkeyed})
	_, err = w.CreateMember(t.Context(), by, "acme", saccount.MemberSpec{ID: "plain again"})
	require.NoError(t, err)
	v, err = keyed.Verify(t.Context(), "acme", saccount.Verify{Unkeyed: true})
	require.NoError(t, err)
	require.NotNil(t, v.Bad, "once it was keyed, nothing without counts")
	assert.Equal(t, [2]any{saccount.BreachUnkeyed, int64(7)}, [2]any{v.Bad.Kind, v.Bad.Seq})
	for _, bad := range []saccount.Head{{Seq: -1, Mark: "x"}, {Seq: 3}} {
		_, err = keyed.Verify(t.Context(), "acme", saccount.Verify{Anchor: bad})
		require.ErrorIs(t, err, saccount.ErrInvalid)
	}
	v, err = keyed.Verify(t.Context(), "nobody", saccount.Verify{})
	require.NoError(t, err)
	assert.Equal(t, saccount.Verified{}, v, "nothing was ever made there")
}

func TestAuditExport(t *testing.T) {
	w := newWorld(t, saccount.Config{})
	_, err := w.CreateAccount(saccount.WithOrigin(t.Context(), saccount.Origin{Request: "+1"}), "=cmd|' /C calc'!A0", "acme", saccount.AccountSpec{Name: "<script>"})
	require.NoError(t, err)
	all := collect(t, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{}))
	var out bytes.Buffer
	require.NoError(t, saccount.WriteAuditCSV(&out, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{})))
	rows, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 3)
	assert.Equal(t, []string{"2", "2026-03-10T12:00:00Z", "acme", "'=cmd|' /C calc'!A0", "create", string(all[1].Subject), "", "'+1", "", "", string(all[1].After), all[1].Mark}, rows[2])
	out.Reset()
	require.NoError(t, saccount.WriteAuditJSONL(&out, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{})))
	assert.NotContains(t, out.String(), "<script>")
	dec := json.NewDecoder(&out)
	for i := range all {
		var e saccount.AuditEntry
		require.NoError(t, dec.Decode(&e))
		assert.Equal(t, all[i], e)
	}
	bad := func(yield func(saccount.AuditEntry, error) bool) {
		_ = yield(all[0], nil) && yield(saccount.AuditEntry{}, errTest)
	}
	require.ErrorIs(t, saccount.WriteAuditCSV(&out, bad), errTest)
	require.ErrorIs(t, saccount.WriteAuditJSONL(&out, bad), errTest)
	require.ErrorIs(t, saccount.WriteAuditCSV(fullDisk{}, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{})), errTest)
	require.ErrorIs(t, saccount.WriteAuditJSONL(fullDisk{}, w.AuditEntries(t.Context(), "acme", saccount.AuditFilter{})), errTest)
}

var errTest = errors.New("test")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errTest }
