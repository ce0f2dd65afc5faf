package alert_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

func sample() alert.Alert {
	return alert.Read(quota.Alert{Seq: 1, Org: "acme", Subject: "account:sa1", Limit: "credits", Start: start.UnixMicro(), End: start.Add(24 * time.Hour).UnixMicro(), Threshold: 80, Max: 100 * quota.Credit, Used: 80 * quota.Credit, At: start.UnixMicro()}, "Worker")
}

// What a receiver gets is what its own library verifies, under either secret.
func TestWebhookIsStandard(t *testing.T) {
	var body []byte
	var header http.Header
	srv, hooks := receiver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		header = r.Header
		w.WriteHeader(http.StatusAccepted)
	}))
	sink, err := hooks.Sink(srv.URL+"/in", secret(t, 2), secret(t, 1))
	require.NoError(t, err)
	a := sample()
	require.NoError(t, sink.Send(ctx, a))
	for version := byte(1); version <= 2; version++ {
		theirs, err := webhooks.NewWebhook(secret(t, version).Reveal())
		require.NoError(t, err)
		assert.NoError(t, theirs.Verify(body, header), "version %d", version)
		assert.Error(t, theirs.Verify(append([]byte{}, strings.ToUpper(string(body))...), header))
		// and by hand, as the specification has it
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret(t, version).Reveal(), "whsec_"))
		require.NoError(t, err)
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", header.Get("webhook-id"), header.Get("webhook-timestamp"), body)
		assert.Contains(t, strings.Split(header.Get("webhook-signature"), " "), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	third, err := webhooks.NewWebhook(secret(t, 3).Reveal())
	require.NoError(t, err)
	assert.Error(t, third.Verify(body, header))
	assert.Equal(t, a.ID, header.Get("webhook-id"))
	assert.NotContains(t, a.ID, ".")
	assert.Equal(t, "application/json", header.Get("Content-Type"))
	var m alert.Message
	require.NoError(t, json.Unmarshal(body, &m))
	assert.Equal(t, "alert.threshold", m.Type)
	assert.Equal(t, a, m.Data)
	assert.Less(t, len(body), 20_000)
}

func TestWebhookAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		header string
		want   string // of the error; empty: none
		after  time.Duration
		gone   bool
	}{
		{status: 200}, {status: 204}, {status: 299},
		{status: 302, want: "302 Found; redirects are not followed"}, {status: 308, want: "308"}, {status: 304, want: "304"},
		{status: 400, want: "400"}, {status: 500, want: "500 Internal Server Error"},
		{status: 410, want: "410 Gone", gone: true},
		{status: 429, header: "120", want: "429", after: 2 * time.Minute},
		{status: 503, header: "Tue, 10 Mar 2026 12:00:30 GMT", want: "503", after: 30 * time.Second},
		{status: 503, header: "-5", want: "503"}, {status: 503, header: "soon", want: "503"}, {status: 503, header: "Tue, 10 Mar 2026 11:00:30 GMT", want: "503"},
	} {
		t.Run(fmt.Sprint(c.status, c.header), func(t *testing.T) {
			asked := 0
			srv, _ := receiver(t, nil)
			srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, "secret of the receiver")
			})
			sink := sinkTo(t, srv, func() time.Time { return start })
			err := sink.Send(ctx, sample())
			assert.Equal(t, 1, asked)
			if c.want == "" {
				assert.NoError(t, err)
				return
			}
			var f *alert.Failure
			require.ErrorAs(t, err, &f)
			assert.Contains(t, err.Error(), c.want)
			assert.NotContains(t, err.Error(), "secret of")
			assert.NotContains(t, err.Error(), srv.URL)
			assert.Equal(t, c.after, f.RetryAfter)
			assert.Equal(t, c.gone, f.Gone)
		})
	}
}

// A proxy of the environment would make the guard look at the proxy's address.
func TestWebhookUsesNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	asked := 0
	srv, hooks := receiver(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	sink, err := hooks.Sink(srv.URL, secret(t, 1))
	require.NoError(t, err)
	require.NoError(t, sink.Send(ctx, sample()))
	assert.Equal(t, 1, asked)
}

func TestSecrets(t *testing.T) {
	one := secret(t, 1)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(one.Reveal(), "whsec_"))
	require.NoError(t, err)
	assert.Len(t, raw, 32)
	for _, n := range []int{0, 23, 65} {
		_, err = alert.NewSecret(make([]byte, n))
		assert.ErrorIs(t, err, quota.ErrInvalid)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", one)
	j, err := json.Marshal(map[string]any{"s": one, "p": &one})
	require.NoError(t, err)
	for _, text := range []string{log.String(), string(j), fmt.Sprintf("%v %+v %#v %s %q %x %d", one, one, one, one, one, one, &one), one.String()} {
		assert.NotContains(t, text, strings.TrimPrefix(one.Reveal(), "whsec_")[:8])
		assert.NotContains(t, text, fmt.Sprintf("%x", raw[:4]))
		assert.NotContains(t, text, fmt.Sprint(raw[0], " ", raw[1]))
		assert.Contains(t, text, "redacted")
	}
}
