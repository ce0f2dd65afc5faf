package frameworks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fiberrecover "github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/keypurse/keypurse/examples/frameworks"
	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// greeting is what every framework's handler answers: it proves that the
// caller arrived where the framework's users look for it.
func greeting(ctx context.Context) string {
	p, ok := saccount.FromContext(ctx)
	return fmt.Sprint("hello ", p.Environment(), ok)
}

// serve listens on loopback until the test ends.
func serve(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func serveFiber(t *testing.T, app *fiber.App) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, app.Shutdown())
		require.NoError(t, <-done)
	})
	return "http://" + ln.Addr().String()
}

// wrapped are the frameworks, each with its route behind a middleware of cfg.
// work is done by the handler, in the request's context.
func wrapped(t *testing.T, h *saccounttest.Harness, cost middleware.Cost, work func(context.Context)) map[string]string {
	mw, err := middleware.New(h.Service, middleware.Config{Cost: cost, Now: h.Now})
	require.NoError(t, err)
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultErrorWriter = io.Discard
	return map[string]string{
		"chi": serve(t, frameworks.Chi(mw, func(w http.ResponseWriter, r *http.Request) {
			work(r.Context())
			_, _ = io.WriteString(w, greeting(r.Context()))
		})),
		"echo": serve(t, frameworks.Echo(mw, func(c *echo.Context) error {
			work(c.Request().Context())
			return c.String(200, greeting(c.Request().Context()))
		})),
		"gin": serve(t, frameworks.Gin(mw, func(c *gin.Context) {
			work(c.Request.Context())
			c.String(200, greeting(c.Request.Context()))
		})),
	}
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	for _, h := range header {
		r.Header.Add("Authorization", h)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func token(h *saccounttest.Harness) string {
	return h.Token(saccounttest.Spec{Monthly: 2 * quota.Credit, Key: saccount.KeySpec{Environment: "staging"}})
}

// used is what a token's account used; nothing may be held.
func used(t *testing.T, h *saccounttest.Harness, token string) quota.Credits {
	t.Helper()
	p, err := h.Service.Authenticate(t.Context(), token, netip.Addr{})
	require.NoError(t, err)
	st, err := h.Service.Status(t.Context(), p)
	require.NoError(t, err)
	require.Zero(t, st[0].Held)
	return st[0].Used
}

// answers is the table that every framework passes: 200, 401 and 429.
func answers(t *testing.T, h *saccounttest.Harness, url string) {
	t.Helper()
	key := token(h)
	res, body := get(t, url)
	assert.Equal(t, 401, res.StatusCode)
	assert.Equal(t, `Bearer realm="api"`, res.Header.Get("WWW-Authenticate"))
	assert.NotContains(t, body, "hello", "a refused request reached the handler")

	res, body = get(t, url, "Bearer "+key+"x")
	assert.Equal(t, 401, res.StatusCode)
	assert.Contains(t, res.Header.Get("WWW-Authenticate"), `error="invalid_token"`)
	problem(t, res, body, "invalid_token")

	res, body = get(t, url, "Bearer "+key, "Bearer "+key)
	assert.Equal(t, 400, res.StatusCode)
	problem(t, res, body, "invalid_request")

	for range 2 {
		res, body = get(t, url, "Bearer "+key)
		assert.Equal(t, 200, res.StatusCode, body)
		assert.Equal(t, "hello stagingtrue", body)
	}
	res, body = get(t, url, "Bearer "+key)
	assert.Equal(t, 429, res.StatusCode)
	assert.NotEmpty(t, res.Header.Get("Retry-After"))
	problem(t, res, body, "limit_exceeded")
	assert.Equal(t, 2*quota.Credit, used(t, h, key))
}

func problem(t *testing.T, res *http.Response, body, code string) {
	t.Helper()
	assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
	var p struct{ Code string }
	require.NoError(t, json.Unmarshal([]byte(body), &p), "one body and no more: %s", body)
	assert.Equal(t, code, p.Code)
}

func TestAnswers(t *testing.T) {
	h := saccounttest.New(t)
	for name, url := range wrapped(t, h, middleware.Fixed(quota.Credit), func(context.Context) {}) {
		t.Run(name, func(t *testing.T) { answers(t, h, url+"/hello") })
	}
	for name, f := range map[string]frameworks.Fiber{
		"fiber":          {Service: h.Service, Most: quota.Credit, Fixed: true},
		"fiber, reserve": {Service: h.Service, Most: quota.Credit},
	} {
		t.Run(name, func(t *testing.T) {
			app := fiber.New()
			app.Get("/hello", f.Handle, func(c fiber.Ctx) error { return c.SendString(greeting(c.Context())) })
			answers(t, h, serveFiber(t, app)+"/hello")
		})
	}
}

// TestSettlesBehindTheHandler: what the handler tells is what is charged, and
// a panic settles too.
func TestSettlesBehindTheHandler(t *testing.T) {
	h := saccounttest.New(t)
	up := middleware.UpTo(func(*http.Request) (quota.Credits, error) { return 2 * quota.Credit, nil })
	tell := func(ctx context.Context) {
		assert.NoError(t, middleware.SetCost(ctx, quota.Credit/2))
		_, held := peek(t, h, ctx)
		assert.Equal(t, 2*quota.Credit, held, "it is settled when the handler is done, not before")
	}
	for name, url := range wrapped(t, h, up, tell) {
		key := token(h)
		res, body := get(t, url+"/hello", "Bearer "+key)
		assert.Equal(t, 200, res.StatusCode, "%s: %s", name, body)
		assert.Equal(t, quota.Credit/2, used(t, h, key), name)
	}
	key := token(h)
	url := wrapped(t, h, up, func(ctx context.Context) { tell(ctx); panic("kaputt") })["gin"]
	res, _ := get(t, url+"/hello", "Bearer "+key)
	assert.Equal(t, 500, res.StatusCode)
	assert.Equal(t, quota.Credit/2, used(t, h, key))

	app := fiber.New()
	app.Use(fiberrecover.New())
	app.Get("/hello", frameworks.Fiber{Service: h.Service, Most: 2 * quota.Credit}.Handle, func(c fiber.Ctx) error {
		_, held := peek(t, h, c.Context())
		assert.Equal(t, 2*quota.Credit, held)
		switch c.Query("do") {
		case "tell":
			frameworks.FiberCost(c, quota.Credit/2)
		case "panic":
			panic("kaputt")
		}
		return nil
	})
	base := serveFiber(t, app)
	for do, want := range map[string]quota.Credits{"tell": quota.Credit / 2, "panic": 2 * quota.Credit, "": 2 * quota.Credit} {
		key := token(h)
		_, _ = get(t, base+"/hello?do="+do, "Bearer "+key)
		assert.Equal(t, want, used(t, h, key), "fiber: %s", do)
	}
}

func peek(t *testing.T, h *saccounttest.Harness, ctx context.Context) (used, held quota.Credits) {
	p, ok := saccount.FromContext(ctx)
	if !assert.True(t, ok) {
		return 0, 0
	}
	st, err := h.Service.Status(ctx, p)
	if !assert.NoError(t, err) {
		return 0, 0
	}
	return st[0].Used, st[0].Held
}

// TestConnect: clients of three protocols get the errors of theirs, and a
// browser gets problem details.
func TestConnect(t *testing.T) {
	h := saccounttest.New(t)
	mw, err := middleware.New(h.Service, middleware.Config{
		Cost: middleware.Fixed(quota.Credit), Now: h.Now, ErrorHandler: frameworks.ConnectErrors(),
	})
	require.NoError(t, err)
	const procedure = "/greet.v1.Greeter/Greet"
	service := connect.NewUnaryHandler(procedure, func(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.StringValue], error) {
		return connect.NewResponse(wrapperspb.String(greeting(ctx))), nil
	})
	s := httptest.NewUnstartedServer(frameworks.Connect(mw, procedure, service))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	for name, opts := range map[string][]connect.ClientOption{
		"connect": nil, "connect with JSON": {connect.WithProtoJSON()}, "grpc-web": {connect.WithGRPCWeb()}, "grpc": {connect.WithGRPC()},
	} {
		t.Run(name, func(t *testing.T) {
			client := connect.NewClient[emptypb.Empty, wrapperspb.StringValue](s.Client(), s.URL+procedure, opts...)
			key := token(h)
			greet := func(key string) (string, *connect.Error) {
				r := connect.NewRequest(&emptypb.Empty{})
				if key != "" {
					r.Header().Set("Authorization", "Bearer "+key)
				}
				res, err := client.CallUnary(t.Context(), r)
				if err == nil {
					return res.Msg.GetValue(), nil
				}
				var e *connect.Error
				require.ErrorAs(t, err, &e)
				return "", e
			}
			for wrong, code := range map[string]string{"": "no_credentials", key + "x": "invalid_token"} {
				_, e := greet(wrong)
				require.NotNil(t, e)
				assert.Equal(t, connect.CodeUnauthenticated, e.Code())
				assert.Equal(t, code, e.Meta().Get("Problem-Code"))
				assert.NotContains(t, strings.ToLower(e.Message()), "malformed", "why is for the log")
			}
			for range 2 {
				got, e := greet(key)
				require.Nil(t, e)
				assert.Equal(t, "hello stagingtrue", got)
			}
			_, e := greet(key)
			require.NotNil(t, e)
			assert.Equal(t, connect.CodeResourceExhausted, e.Code())
			assert.NotEmpty(t, e.Meta().Get("Retry-After"))
			assert.Equal(t, 2*quota.Credit, used(t, h, key))
		})
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+procedure, strings.NewReader("hello"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "text/plain")
	res, err := s.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, 401, res.StatusCode)
	problem(t, res, string(b), "no_credentials")
}
