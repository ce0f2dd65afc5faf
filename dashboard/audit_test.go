package dashboard_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// tampered is a store whose audit log somebody writes to behind its back.
type tampered struct {
	*memstore.Store
	spoil func([]saccount.Entry) []saccount.Entry
}

func (s *tampered) Audit(ctx context.Context, org string, after int64, limit int) ([]saccount.Entry, error) {
	es, err := s.Store.Audit(ctx, org, after, limit)
	if s.spoil != nil {
		es = s.spoil(es)
	}
	return es, err
}

// tamperedKit is a kit with an organization of n members, on a store that can be
// tampered with.
func tamperedKit(t *testing.T, n int) (*kit, *tampered) {
	t.Helper()
	st := &tampered{Store: memstore.New()}
	k := &kit{t: t}
	svc := k.on(st)
	_, err := svc.CreateOrg(t.Context(), "setup", saccount.OrgSpec{ID: "acme", Name: "Acme"})
	require.NoError(t, err)
	for i := range n {
		_, err := svc.CreateMember(t.Context(), "setup", "acme", saccount.MemberSpec{ID: fmt.Sprint("m", i)})
		require.NoError(t, err)
	}
	return k, st
}

// on sets the kit on a store, with secrets.
func (k *kit) on(st *tampered, secrets ...saccount.Secret) *saccount.Service {
	k.t.Helper()
	svc, err := saccount.New(st, saccount.Config{Secrets: secrets})
	require.NoError(k.t, err)
	k.t.Cleanup(func() { require.NoError(k.t, svc.Close()) })
	k.h, err = dashboard.New(svc, dashboard.Config{Authorize: authorize})
	require.NoError(k.t, err)
	return svc
}

// change changes one entry.
func (s *tampered) change(seq int64) {
	s.spoil = func(es []saccount.Entry) []saccount.Entry {
		for i := range es {
			if es[i].Seq == seq {
				es[i].Data = []byte(strings.Replace(string(es[i].Data), "setup", "nobody", 1))
			}
		}
		return es
	}
}

func seqs(page map[string]any) (out []int) {
	for _, x := range page["items"].([]any) {
		out = append(out, int(x.(map[string]any)["seq"].(float64)))
	}
	return out
}

func TestAuditFilters(t *testing.T) {
	k := newKit(t) // entry 1
	for _, id := range []string{"ann", "bob", "cid"} {
		k.Advance(time.Hour)
		_, err := k.Service.CreateMember(t.Context(), saccount.Actor("user:"+id), "acme", saccount.MemberSpec{ID: id}) // 2, 3, 4
		require.NoError(t, err)
	}
	require.NoError(t, k.Service.DisableMember(t.Context(), "user:ann", "acme", "bob")) // 5
	const list = "orgs/acme/audit?"
	for query, want := range map[string][]int{
		"":                                {1, 2, 3, 4, 5},
		"order=newest":                    {5, 4, 3, 2, 1},
		"actor=user:ann":                  {2, 5},
		"action=create":                   {1, 2, 3, 4},
		"subject=member:bob&order=newest": {5, 3},
		"from=2030-01-15T13:00:00Z&to=2030-01-15T15:00:00Z": {2, 3},
		"after=3": {4, 5}, "after=3&order=newest": {2, 1}, "after=99": nil,
	} {
		assert.Equal(t, want, seqs(k.do(viewer, "GET", list+query, "").ok(200)), query)
	}
	var paged []int
	for after := ""; ; {
		p := k.do(viewer, "GET", list+"order=newest&limit=2"+after, "").ok(200)
		paged = append(paged, seqs(p)...)
		next, more := p["next"].(string)
		if !more {
			break
		}
		after = "&after=" + next
	}
	assert.Equal(t, []int{5, 4, 3, 2, 1}, paged)
	for query, wrong := range map[string]string{"order=up": "order", "from=yesterday": "from", "to=x": "to", "after=-1": "after", "limit=0": "limit", "who=x": "who"} {
		a := k.do(viewer, "GET", list+query, "")
		assert.Equal(t, 400, a.Code, query)
		assert.Equal(t, []string{wrong}, a.pointers(), query)
	}
}

func TestAuditVerification(t *testing.T) {
	k, st := tamperedKit(t, 24)
	const at = "orgs/acme/audit/verification"
	whole := k.do(viewer, "GET", at, "").ok(200)
	assert.EqualValues(t, 25, whole["entries"])
	assert.Equal(t, false, whole["more"])
	assert.NotContains(t, whole, "bad")
	anchor := whole["head"].(map[string]any)
	assert.EqualValues(t, 25, anchor["seq"])
	query := func(h any, name string) string {
		m := h.(map[string]any)
		return fmt.Sprintf("&%s_seq=%v&%s_mark=%s", name, m["seq"], name, url.QueryEscape(m["mark"].(string)))
	}
	// In steps, each behind the one before.
	steps := func() (n int, last map[string]any) {
		from := ""
		for n = 1; ; n++ {
			last = k.do(viewer, "GET", at+"?limit=10"+from, "").ok(200)
			if last["more"] != true {
				return n, last
			}
			from = query(last["head"], "from")
		}
	}
	n, last := steps()
	assert.Equal(t, 3, n)
	assert.Equal(t, anchor, last["head"])
	st.change(17)
	for _, v := range []map[string]any{k.do(viewer, "GET", at, "").ok(200), func() map[string]any { _, v := steps(); return v }()} {
		assert.Equal(t, map[string]any{"seq": 17.0, "kind": "changed", "detail": "entry 17 is not as it was written"}, v["bad"])
		assert.EqualValues(t, 16, v["head"].(map[string]any)["seq"])
	}
	// What cannot be seen without an anchor is seen with one.
	st.spoil = func(es []saccount.Entry) []saccount.Entry {
		for i := range es {
			if es[i].Seq > 20 {
				return es[:i]
			}
		}
		return es
	}
	assert.NotContains(t, k.do(viewer, "GET", at, "").ok(200), "bad")
	assert.Equal(t, "cut tail", k.do(viewer, "GET", at+"?"+query(anchor, "anchor"), "").ok(200)["bad"].(map[string]any)["kind"])
	for q, wrong := range map[string]string{
		"anchor_seq=0&anchor_mark=x": "anchor_seq", "anchor_seq=3": "anchor_mark", "anchor_mark=x": "anchor_seq", "from_seq=x&from_mark=x": "from_seq",
		"from_seq=1&from_mark=" + strings.Repeat("x", 129): "from_mark", "limit=100001": "limit", "limit=0": "limit", "unkeyed=maybe": "unkeyed",
	} {
		a := k.do(viewer, "GET", at+"?"+q, "")
		assert.Equal(t, 400, a.Code, q)
		assert.Equal(t, []string{wrong}, a.pointers(), q)
	}
	a := k.do(viewer, "GET", at+"?"+query(anchor, "from")+"&anchor_seq=3&anchor_mark=x", "")
	assert.Equal(t, 400, a.Code)
	assert.Contains(t, a.Body.String(), "which lies before entry 25")
}

func TestAuditExport(t *testing.T) {
	k, st := tamperedKit(t, 2000)
	const at = "/api/v1/orgs/acme/audit/export"
	a := k.raw(viewer, "GET", at, "")
	require.Equal(t, 200, a.Code)
	assert.Equal(t, `attachment; filename="audit.jsonl"`, a.Header().Get("Content-Disposition"))
	lines := strings.Split(strings.TrimSuffix(a.Body.String(), "\n"), "\n")
	require.Len(t, lines, 2001)
	var e saccount.AuditEntry
	require.NoError(t, json.Unmarshal([]byte(lines[2000]), &e))
	assert.EqualValues(t, 2001, e.Seq)
	assert.NotEmpty(t, e.Mark)
	a = k.raw(viewer, "GET", at+"?format=csv&subject=member:m7&order=newest", "")
	require.Equal(t, 200, a.Code)
	assert.NotEmpty(t, a.Header().Get("Content-Length"), "what is short is answered whole")
	rows, err := csv.NewReader(a.Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, []string{"9", "acme", "setup", "create", "member:m7"}, []string{rows[1][0], rows[1][2], rows[1][3], rows[1][4], rows[1][5]})
	a = k.raw(viewer, "HEAD", at, "")
	assert.Equal(t, 200, a.Code)
	assert.Zero(t, a.Body.Len())
	assert.Equal(t, []string{"format"}, k.raw(viewer, "GET", at+"?format=xml", "").pointers())

	// What goes wrong at once is answered; later the file breaks off, and does
	// not look whole.
	st.spoil = func(es []saccount.Entry) []saccount.Entry { es[0].Data = []byte("{"); return es }
	a = k.raw(viewer, "GET", at, "")
	assert.Equal(t, 500, a.Code)
	assert.Equal(t, "corrupt", a.code())
	assert.Empty(t, a.Header().Get("Content-Disposition"))
	st.spoil = func(es []saccount.Entry) []saccount.Entry {
		if es[0].Seq > 1 {
			es[0].Data = []byte("{")
		}
		return es
	}
	srv := httptest.NewServer(k.h)
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+at, nil)
	require.NoError(t, err)
	r.Header.Set("Test-Who", string(viewer))
	res, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	assert.Equal(t, 200, res.StatusCode)
	b, err := io.ReadAll(res.Body)
	require.Error(t, err, "%d bytes", len(b))
}
