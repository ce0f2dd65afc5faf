package middleware_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestCredentials(t *testing.T) {
	h := saccounttest.New(t)
	quiet, err := middleware.NewThrottle(middleware.ThrottleConfig{Failures: -1})
	require.NoError(t, err)
	off := listen(t, wrap(t, h, middleware.Config{Throttle: quiet}, okay))
	on := listen(t, wrap(t, h, middleware.Config{Throttle: quiet, XAPIKey: true}, okay))
	a, b := h.Token(saccounttest.Spec{}), h.Token(saccounttest.Spec{})
	const auth, key = "Authorization", "X-API-Key"
	for _, c := range []struct {
		name      string
		header    []string
		off, on   int
		challenge string // error= with X-API-Key off
	}{
		{"bearer", []string{auth, "Bearer " + a}, 200, 200, ""},
		{"lower case", []string{auth, "bearer " + a}, 200, 200, ""},
		{"mixed case", []string{auth, "bEaReR " + a}, 200, 200, ""},
		{"more spaces", []string{auth, "Bearer    " + a}, 200, 200, ""},
		{"nothing", nil, 401, 401, ""},
		{"empty", []string{auth, ""}, 401, 401, ""},
		{"alone", []string{auth, "Bearer"}, 401, 401, "invalid_token"},
		{"alone with spaces", []string{auth, "Bearer   "}, 401, 401, "invalid_token"},
		{"a tab", []string{auth, "Bearer\t" + a}, 401, 401, ""},
		{"glued", []string{auth, "Bearer" + a}, 401, 401, ""},
		{"without a scheme", []string{auth, a}, 401, 401, ""},
		{"basic", []string{auth, "Basic dXNlcjpwYXNz"}, 401, 401, ""},
		{"twice the scheme", []string{auth, "Bearer Bearer " + a}, 401, 401, "invalid_token"},
		{"quoted", []string{auth, `Bearer "` + a + `"`}, 401, 401, "invalid_token"},
		{"invalid UTF-8", []string{auth, "Bearer \xff\xfe" + a[2:]}, 401, 401, "invalid_token"},
		{"two lines", []string{auth, "Bearer " + a, auth, "Bearer " + b}, 400, 400, "invalid_request"},
		{"two lines that agree", []string{auth, "Bearer " + a, auth, "Bearer " + a}, 400, 400, "invalid_request"},
		{"two schemes", []string{auth, "Basic dXNlcjpwYXNz", auth, "Bearer " + a}, 400, 400, "invalid_request"},
		{"joined lines", []string{auth, "Bearer " + a + ", Bearer " + b}, 400, 400, "invalid_request"},
		{"a long list", []string{auth, "Bearer " + a + strings.Repeat(",", 300)}, 401, 401, "invalid_token"},
		{"x-api-key", []string{key, a}, 401, 200, ""},
		{"x-api-key empty", []string{key, ""}, 401, 401, ""},
		{"x-api-key wrong", []string{key, a + "0"}, 401, 401, ""},
		{"x-api-key with a scheme", []string{key, "Bearer " + a}, 401, 401, ""},
		{"x-api-key twice", []string{key, a, key, a}, 401, 400, ""},
		{"both", []string{auth, "Bearer " + a, key, b}, 200, 400, ""},
		{"both, agreeing", []string{auth, "Bearer " + a, key, a}, 200, 400, ""},
		{"both, one empty", []string{auth, "Bearer " + a, key, ""}, 200, 400, ""},
		{"x-api-key behind a proxy's basic", []string{auth, "Basic dXNlcjpwYXNz", key, a}, 401, 200, ""},
	} {
		got := do(t, off, http.MethodGet, c.header...)
		assert.Equal(t, c.off, got.status, "%s, off: %s", c.name, got.body)
		if w := got.header.Get("WWW-Authenticate"); c.challenge != "" {
			assert.Contains(t, w, `error="`+c.challenge+`"`, c.name)
		} else {
			assert.NotContains(t, w, "error=", c.name)
		}
		got = do(t, on, http.MethodGet, c.header...)
		assert.Equal(t, c.on, got.status, "%s, on: %s", c.name, got.body)
		assert.NotContains(t, got.body, a)
	}
}

// TestNeverTheQuery: a key in the URL is not looked at.
func TestNeverTheQuery(t *testing.T) {
	h := saccounttest.New(t)
	s := listen(t, wrap(t, h, middleware.Config{XAPIKey: true}, okay))
	token := h.Token(saccounttest.Spec{})
	for _, q := range []string{"access_token", "api_key", "key", "token", "x-api-key"} {
		res, err := s.Client().Get(s.URL + "/x?" + q + "=" + token)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, 401, res.StatusCode, q)
	}
}

// TestRawInput sends what no client library would.
func TestRawInput(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(quota.Credit))
	s := listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(quota.Credit)}, okay))
	for _, c := range []struct {
		name, lines string
		want        int
	}{
		{"1 MB of key", "Authorization: Bearer " + strings.Repeat("a", 1<<20), 401},
		{"1 MB of commas", "Authorization: Bearer " + strings.Repeat(",", 1<<20), 401},
		{"1 MB of spaces", "Authorization: Bearer" + strings.Repeat(" ", 1<<20) + "x", 401},
		{"1 MB of scheme", "Authorization: " + strings.Repeat("B", 1<<20), 401},
		{"1,000 lines", strings.TrimSuffix(strings.Repeat("Authorization: Bearer x\r\n", 1000), "\r\n"), 400},
		{"2 MB", "Authorization: Bearer " + strings.Repeat("a", 2<<20), 431},
		{"two lines", "Authorization: Bearer " + token + "\r\nauthorization: Bearer " + token, 400},
		{"NUL", "Authorization: Bearer " + token[:8] + "\x00" + token[9:], 400},
		{"CR", "Authorization: Bearer " + token[:8] + "\r" + token[9:], 400},
		{"a line folded", "Authorization: Bearer\r\n " + token, 200},
		{"invalid UTF-8", "Authorization: Bearer \xc3\x28\xff" + token[3:], 401},
		{"latin-1", "Authorization: Bearer \xe9" + token[1:], 401},
		{"a name with a space", "Authorization : Bearer " + token, 400},
	} {
		assert.Equal(t, c.want, raw(t, s.Listener.Addr().String(), c.lines), c.name)
	}
	assert.Equal(t, 429, get(t, s, token).status, "one of them was a request to be charged")
}

// raw sends header lines as they are and gives the status.
func raw(t *testing.T, addr, lines string) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	// A server that has read enough answers and closes: what is still on its
	// way does not matter.
	_, _ = fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n\r\n", lines)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

// TestLongHeaderIsNotCopied: the answer to a megabyte is made without another.
func TestLongHeaderIsNotCopied(t *testing.T) {
	h, r := benchHandler(t, middleware.Config{XAPIKey: true})
	r.Header.Set("Authorization", "Bearer "+strings.Repeat("x", 1<<20))
	w := mute{http.Header{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 16 {
		h.ServeHTTP(w, r)
	}
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<19))
}

func FuzzBearer(f *testing.F) {
	for _, s := range []string{"", "Bearer", "Bearer x", "bearer  x ", "Basic x", "Bearer\tx", "Bearer x, Bearer y", "BEARERx", "Bearer \x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		token, ok := middleware.Bearer(v)
		if !ok {
			if token != "" {
				t.Fatalf("%q: a token %q of no scheme", v, token)
			}
			return
		}
		if !strings.EqualFold(v[:6], "bearer") || !strings.Contains(v, token) || token != strings.Trim(token, " ") {
			t.Fatalf("%q gives %q", v, token)
		}
	})
}
