package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var secretLine = regexp.MustCompile(`(?m)^export WEBHOOK_SECRET=(\S+)$`)

// A webhook on this machine gets the test and the alerts, signed with the secret
// that was printed; a second start keeps it.
func TestAlertsToAWebhook(t *testing.T) {
	type message struct {
		body   string
		header http.Header
	}
	got := make(chan message, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- message{string(b), r.Header}
	}))
	defer srv.Close()
	next := func() message {
		t.Helper()
		select {
		case m := <-got:
			return m
		case <-time.After(time.Minute):
			require.Fail(t, "no alert came")
			return message{}
		}
	}
	bin, db := build(t), filepath.Join(t.TempDir(), "purse.db")
	p := start(t, bin, db, "-webhook", srv.URL+"/in")
	m := secretLine.FindStringSubmatch(p.text)
	require.NotNil(t, m, p.text)
	wh, err := webhooks.NewWebhook(m[1])
	require.NoError(t, err)
	first := next()
	require.NoError(t, wh.Verify([]byte(first.body), first.header))
	assert.Contains(t, first.body, `"type":"alert.test"`)

	token := exportLine.FindStringSubmatch(p.text)[1]
	code, v, _ := call(t, "POST", p.url+"/v1/words", token, strings.NewReader(strings.Repeat("a ", 26_000)))
	require.Equal(t, 200, code, v)
	second := next()
	require.NoError(t, wh.Verify([]byte(second.body), second.header))
	assert.Contains(t, second.body, `"type":"alert.threshold"`)
	assert.Contains(t, second.body, "has spent 260 credits, 50% or more of its limit of 500 credits")
	require.NoError(t, p.end(t, syscall.SIGTERM))

	p = start(t, bin, db, "-webhook", srv.URL+"/in")
	assert.Equal(t, m[1], secretLine.FindStringSubmatch(p.text)[1])
	again := next()
	require.NoError(t, wh.Verify([]byte(again.body), again.header))
	assert.NotEqual(t, first.header.Get("webhook-id"), again.header.Get("webhook-id"))
	require.NoError(t, p.end(t, syscall.SIGTERM))
}
