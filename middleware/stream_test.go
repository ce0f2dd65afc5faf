package middleware_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// TestWriterIsNotWrapped: what a handler gets is what the server gave.
func TestWriterIsNotWrapped(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(20 * credit))
	for _, cfg := range []middleware.Config{{}, {Cost: middleware.Fixed(1)}, upTo(1)} {
		var inner http.ResponseWriter
		mw := wrap(t, h, cfg, func(w http.ResponseWriter, _ *http.Request) { inner = w })
		outer := mute{http.Header{}}
		mw.ServeHTTP(outer, request(t, token))
		assert.Equal(t, http.ResponseWriter(outer), inner)
	}
}

// TestStreaming: each line arrives while the handler still runs, and what it
// cost is charged when the stream is over.
func TestStreaming(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(20 * credit))
	read := make(chan struct{})
	s := listen(t, wrap(t, h, upTo(10*credit), func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		assert.NoError(t, rc.SetWriteDeadline(time.Now().Add(time.Minute)))
		assert.NoError(t, rc.EnableFullDuplex())
		for i := range 5 {
			_, _ = fmt.Fprintf(w, "line %d\n", i)
			if i%2 == 0 {
				assert.NoError(t, rc.Flush())
			} else if f, ok := w.(http.Flusher); assert.True(t, ok) {
				f.Flush()
			}
			assert.NoError(t, middleware.AddCost(r.Context(), credit))
			<-read // the client has it before the next is written
		}
	}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := s.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 5 {
		require.True(t, lines.Scan())
		assert.Equal(t, fmt.Sprint("line ", i), lines.Text())
		_, held, _ := spent(t, h, token)
		assert.Equal(t, 10*credit, held)
		read <- struct{}{}
	}
	require.False(t, lines.Scan())
	requireSpent(t, h, token, 5*credit)
}

// TestHijack: a connection that a handler takes over is its own, and what it
// cost is charged.
func TestHijack(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(monthly(20 * credit))
	done := make(chan struct{})
	mw := wrap(t, h, upTo(10*credit), func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, err := rw.ReadString('\n')
		assert.NoError(t, err)
		assert.NoError(t, middleware.SetCost(r.Context(), 2*credit))
		_, _ = rw.WriteString(line)
		_ = rw.Flush()
	})
	s := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mw.ServeHTTP(w, r)
		close(done)
	}))
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nAuthorization: Bearer %s\r\n\r\nhello\n", token)
	require.NoError(t, err)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	assert.Equal(t, 101, res.StatusCode)
	rest, err := io.ReadAll(br)
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(rest))
	<-done
	requireSpent(t, h, token, 2*credit)
}
