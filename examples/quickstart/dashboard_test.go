package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// The dashboard has no login here, so nobody but this machine may see it: not
// from elsewhere, and not by a name that another site pointed at it.
func TestTheDashboardIsForThisMachineAlone(t *testing.T) {
	svc, err := saccount.New(memstore.New(), saccount.Config{Prefix: "acme"})
	require.NoError(t, err)
	defer svc.Close()
	_, err = worker(t.Context(), svc)
	require.NoError(t, err)
	h, err := console(svc)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(dashboardPath, h)
	for _, c := range []struct {
		host, from string
		status     int
	}{
		{"127.0.0.1:8080", "127.0.0.1:4711", 200}, {"localhost:8080", "[::1]:4711", 200}, {"[::1]:8080", "127.0.0.1:4711", 200}, {"localhost", "127.0.0.1:4711", 200},
		{"evil.example:8080", "127.0.0.1:4711", 401}, {"127.0.0.1.evil.example", "127.0.0.1:4711", 401}, {"localhost.evil.example", "127.0.0.1:4711", 401},
		{"127.0.0.1:8080", "192.0.2.1:4711", 401}, {"", "127.0.0.1:4711", 401},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, dashboardPath+"orgs/"+orgID+"/accounts", nil)
		r.Host, r.RemoteAddr = c.host, c.from
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		assert.Equal(t, c.status, w.Code, "%s from %s", c.host, c.from)
		if c.status == 200 {
			assert.Contains(t, w.Body.String(), accountName)
		} else {
			assert.NotContains(t, w.Body.String(), accountName)
		}
	}
}

// The demonstration's month is made once, and is what was charged in it.
func TestTheDemonstrationIsMadeOnce(t *testing.T) {
	st := memstore.New()
	now := time.Date(2027, 3, 15, 12, 30, 0, 0, time.UTC)
	require.NoError(t, demo(t.Context(), st, now))
	spent := func() int64 {
		svc, err := saccount.New(st, saccount.Config{Prefix: "acme", Now: func() time.Time { return now }})
		require.NoError(t, err)
		defer svc.Close()
		r, err := svc.Report(t.Context(), saccount.ReportQuery{Org: orgID, From: now.AddDate(0, 0, -demoDays-1), To: now})
		require.NoError(t, err)
		require.Len(t, r.Accounts.Top, len(demoAccounts()))
		assert.Positive(t, r.Total.Credits)
		alerts, err := svc.Alerts(t.Context(), orgID, saccount.AlertFilter{})
		require.NoError(t, err)
		assert.Greater(t, len(alerts.Items), 20, "there are alerts to look at")
		assert.Equal(t, "Support Assistant", alerts.Items[0].Name)
		return r.Total.Requests
	}
	first := spent()
	assert.Greater(t, first, int64(1000))
	require.NoError(t, demo(t.Context(), st, now))
	assert.Equal(t, first, spent())
}
