package prompurse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/observe/prompurse"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// scrape reads what a Prometheus server would, over HTTP.
func scrape(t *testing.T, r *prometheus.Registry) string {
	t.Helper()
	srv := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer srv.Close()
	res, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(b)
}

// busy does a bit of everything.
func busy(t *testing.T, m *prompurse.Metrics) {
	t.Helper()
	h := saccounttest.New(t, saccount.Config{Observer: m.Observer()})
	token, key := h.Issue(saccounttest.Spec{Monthly: 10 * quota.Credit})
	ctx, svc := t.Context(), h.Service
	for range 3 {
		_, _, err := svc.AuthenticateAndCharge(ctx, token.Reveal(), nil, saccount.Charge{Amount: 2500000})
		require.NoError(t, err)
	}
	p, err := svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
	require.NoError(t, err)
	_, err = svc.Charge(ctx, p, saccount.Charge{Amount: 5 * quota.Credit}) // refused
	require.NoError(t, err)
	r, _, err := svc.Reserve(ctx, p, saccount.Reserve{Amount: quota.Credit, TTL: time.Minute})
	require.NoError(t, err)
	_, err = r.Commit(ctx, 3*quota.Credit) // 2.5 are left: half of one is overage
	require.NoError(t, err)
	_, _ = svc.Authenticate(ctx, "sa_nonsense", netip.Addr{})
	require.NoError(t, svc.DisableKey(ctx, "test", "acme", key.ID))
	_, _ = svc.Authenticate(ctx, token.Reveal(), netip.Addr{})
}

func TestScrape(t *testing.T) {
	waiting, outboxErr := int64(7), error(nil)
	m, err := prompurse.New(prompurse.Config{Outbox: func(context.Context) (int64, error) { return waiting, outboxErr }})
	require.NoError(t, err)
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m))
	busy(t, m)
	text := scrape(t, r)
	for _, line := range []string{
		`keypurse_authentications_total{outcome="ok"} 4`,
		`keypurse_authentications_total{outcome="malformed"} 1`,
		`keypurse_authentications_total{outcome="disabled"} 1`,
		`keypurse_authentication_duration_seconds_count 6`,
		`keypurse_lookups_total{kind="key",result="hit"} 3`,
		`keypurse_lookups_total{kind="key",result="miss"} 2`,
		`keypurse_operations_total{outcome="allowed",verb="charge"} 3`,
		`keypurse_operations_total{outcome="refused",verb="charge"} 1`,
		`keypurse_operations_total{outcome="allowed",verb="commit"} 1`,
		`keypurse_operation_duration_seconds_count{verb="charge"} 4`,
		`keypurse_credits_total{verb="charge"} 7.5`,
		`keypurse_credits_total{verb="commit"} 3`,
		`keypurse_overrun_credits_total 2`,
		`keypurse_refusals_total{level="account"} 1`,
		`keypurse_store_duration_seconds_count{call="lookup",result="ok"}`,
		`keypurse_store_batch_operations_count 6`,
		`keypurse_outbox_alerts 7`,
	} {
		assert.Contains(t, text, "\n"+line, line)
	}
	assert.NotContains(t, text, "acme", "no organization where nobody asked for it")
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	assert.Empty(t, problems, "the naming rules of Prometheus")

	outboxErr = errors.New("the store is away")
	text = scrape(t, r)
	assert.NotContains(t, text, "outbox")
	assert.Contains(t, text, "keypurse_authentications_total", "the rest is there all the same")
}

func TestOrganizationsAreALabelWhereAskedForAndBounded(t *testing.T) {
	m, err := prompurse.New(prompurse.Config{Namespace: "shop", Org: strings.ToUpper, MaxOrgs: 2})
	require.NoError(t, err)
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m))
	busy(t, m)
	o := m.Observer()
	for i := range 1000 {
		o.Spent(t.Context(), saccount.Spent{Verb: quota.VerbCharge, Org: fmt.Sprint("o", i), Allowed: true, Amount: quota.Credit})
	}
	text := scrape(t, r)
	for _, line := range []string{
		`shop_authentications_total{org="ACME",outcome="ok"} 4`,
		`shop_authentications_total{org="",outcome="malformed"} 1`,
		`shop_credits_total{org="O0",verb="charge"} 1`,
		`shop_credits_total{org="other",verb="charge"} 999`,
		`shop_refusals_total{level="account",org="ACME"} 1`,
	} {
		assert.Contains(t, text, "\n"+line, line)
	}
	assert.NotContains(t, text, `org="O1"`)
}

func TestConfig(t *testing.T) {
	_, err := prompurse.New(prompurse.Config{MaxOrgs: -1})
	assert.ErrorContains(t, err, "MaxOrgs")
	_, err = prompurse.New(prompurse.Config{Buckets: []float64{1, 1}})
	assert.ErrorContains(t, err, "Buckets")
	_, err = prompurse.New(prompurse.Config{Namespace: "no good"})
	assert.ErrorContains(t, err, "Namespace")
}

func Example() {
	m, err := prompurse.New(prompurse.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	cfg := saccount.Config{Observer: m.Observer()} // for saccount.New
	cfg.Observer.Authenticated(context.Background(), saccount.Authenticated{Outcome: saccount.OutcomeOK})

	n, err := testutil.GatherAndCount(registry, "keypurse_authentications_total")
	fmt.Println(n, err)
	// Output: 1 <nil>
}
