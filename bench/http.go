package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

var okBody = []byte("ok")

// bare is the handler that every middleware is put around.
var bare = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusOK)
	w.Write(okBody)
})

// wrapped builds a handler for keys with these tokens (which it may replace by
// its own) and what releases it.
type wrapped func(ctx context.Context, env harness.Env, shape fixture.Shape) (h http.Handler, tokens []string, closeIt func() error, err error)

// around is the wrapped of a middleware that knows no keys: it counts by the
// whole Authorization header.
func around(mw func(http.Handler) (http.Handler, func() error, error)) wrapped {
	return func(_ context.Context, _ harness.Env, shape fixture.Shape) (http.Handler, []string, func() error, error) {
		h, closeIt, err := mw(bare)
		if err != nil {
			return nil, nil, nil, err
		}
		var tokens []string
		for _, k := range fixture.Keys(shape) {
			tokens = append(tokens, k.Token)
		}
		return h, tokens, closeIt, nil
	}
}

// recorder is a ResponseWriter that keeps no more than the status, so that
// what is measured is the handler.
type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }

// inProcess serves requests of random keys from one caller, without a
// network: one request and one recorder, used again and again.
func inProcess(work, who string, shape fixture.Shape, wrap wrapped) harness.Case {
	return harness.Case{Work: work, Who: who, Sample: 16,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			h, tokens, closeIt, err := wrap(ctx, env, cut(env, shape))
			if err != nil {
				return nil, err
			}
			headers := make([][]string, len(tokens))
			for i, t := range tokens {
				headers[i] = []string{"Bearer " + t}
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bench/v1/x", nil)
			if err != nil {
				return nil, err
			}
			req.RemoteAddr, req.RequestURI = "192.0.2.1:1234", "/v1/x"
			rec := &recorder{header: http.Header{}}
			return &harness.Running{Close: closeIt, Op: func(w, i int) error {
				req.Header["Authorization"] = headers[fixture.Pick(w, i, len(headers))]
				clear(rec.header)
				rec.status = 0
				h.ServeHTTP(rec, req)
				if rec.status != http.StatusOK {
					return fmt.Errorf("status %d", rec.status)
				}
				return nil
			}}, nil
		}}
}

// loopback serves the same requests over keep-alive connections to a real
// listener, one connection a caller.
func loopback(work, who string, shape fixture.Shape, connections int, wrap wrapped) harness.Case {
	return harness.Case{Work: work, Who: who, Callers: connections,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			h, tokens, closeIt, err := wrap(ctx, env, cut(env, shape))
			if err != nil {
				return nil, err
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				if closeIt != nil {
					err = errors.Join(err, closeIt())
				}
				return nil, err
			}
			srv := &http.Server{Handler: h}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			clients := make([]*client, connections)
			release := func() error {
				for _, c := range clients {
					if c != nil {
						c.conn.Close()
					}
				}
				err := srv.Close()
				if e := <-served; !errors.Is(e, http.ErrServerClosed) {
					err = errors.Join(err, e)
				}
				if closeIt != nil {
					err = errors.Join(err, closeIt())
				}
				return err
			}
			for i := range clients {
				conn, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					return nil, errors.Join(err, release())
				}
				clients[i] = &client{conn: conn, in: bufio.NewReader(conn)}
			}
			requests := make([][]byte, len(tokens))
			for i, t := range tokens {
				requests[i] = []byte("GET /v1/x HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + t + "\r\n\r\n")
			}
			return &harness.Running{Close: release, Op: func(w, i int) error {
				return clients[w].do(requests[fixture.Pick(w, i, len(requests))])
			}}, nil
		}}
}

// client speaks as little HTTP/1.1 as a keep-alive connection needs, so that
// the server has most of the processor.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

var (
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("Content-Length: ")
)

func (c *client) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, statusOK) {
		return fmt.Errorf("answered %q", line)
	}
	body := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if n, ok := bytes.CutPrefix(line, contentLength); ok {
			if body, err = strconv.Atoi(string(n)); err != nil {
				return err
			}
		}
	}
	_, err = c.in.Discard(body)
	return err
}
