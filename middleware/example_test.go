package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// service makes a Service with a key that may spend 2 credits in all.
func service() (*saccount.Service, string) {
	ctx := context.Background()
	svc, err := saccount.New(memstore.New(), saccount.Config{Prefix: "acme_live"})
	check(err)
	org, err := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{Name: "Acme"})
	check(err)
	account, err := svc.CreateAccount(ctx, "user:alice", org.ID, saccount.AccountSpec{
		Name:   "Production Worker",
		Limits: saccount.Limits{"": saccount.NewLimit(2*quota.Credit, quota.Period{})},
	})
	check(err)
	token, _, err := svc.CreateKey(ctx, "user:alice", org.ID, account.ID, saccount.KeySpec{Name: "Backend"})
	check(err)
	return svc, token.Reveal()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// call sends a body to a handler and prints what it answers.
func call(h http.Handler, token, body string) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
}

func ExampleNew() {
	svc, token := service()
	defer svc.Close()
	gate, err := middleware.New(svc, middleware.Config{Cost: middleware.Fixed(quota.Credit)})
	check(err)
	h := gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := saccount.FromContext(r.Context())
		fmt.Fprint(w, "hello, ", caller.KeyName())
	}))

	call(h, token, "")
	call(h, "acme_live_guess", "")
	// Output:
	// 200 hello, Backend
	// 401 {"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_token","detail":"The key is not valid."}
}

// The cost shows in the request: a tenth of a credit for every kilobyte.
func ExampleComputed() {
	svc, token := service()
	defer svc.Close()
	gate, err := middleware.New(svc, middleware.Config{
		Cost: middleware.Computed(func(r *http.Request) (quota.Credits, error) {
			if r.ContentLength < 0 {
				return 0, &middleware.Problem{Status: http.StatusLengthRequired, Detail: "Send a Content-Length."}
			}
			return (quota.Credit / 10).Mul((r.ContentLength + 999) / 1000)
		}),
	})
	check(err)
	h := gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := saccount.FromContext(r.Context())
		limits, err := svc.Status(r.Context(), caller)
		if err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
		fmt.Fprint(w, limits[0].Remaining, " credits left")
	}))

	call(h, token, strings.Repeat("x", 2500))
	// Output: 200 1.7 credits left
}

// What the work costs is known when it is done: the handler settles, and then
// answers.
func ExampleSettle() {
	svc, token := service()
	defer svc.Close()
	gate, err := middleware.New(svc, middleware.Config{
		Cost: middleware.UpTo(func(*http.Request) (quota.Credits, error) { return quota.Credit, nil }),
	})
	check(err)
	h := gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100))
		if err != nil {
			check(middleware.SetCost(r.Context(), 0)) // no work, no cost
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
			return
		}
		words := len(strings.Fields(string(body)))
		d, err := middleware.Settle(r.Context(), quota.Credit/100*quota.Credits(words))
		if err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
		left, _ := d.Remaining()
		fmt.Fprintf(w, "%d words, %s credits left", words, left)
	}))

	call(h, token, "to be or not to be")
	// Output: 200 6 words, 1.94 credits left
}

// A stream is paid for by the piece: whatever ends it, what was sent is
// charged.
func ExampleAddCost() {
	svc, token := service()
	defer svc.Close()
	gate, err := middleware.New(svc, middleware.Config{
		Cost: middleware.UpTo(func(*http.Request) (quota.Credits, error) { return quota.Credit, nil }),
	})
	check(err)
	h := gate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, piece := range []string{"one ", "two ", "three"} {
			check(middleware.AddCost(r.Context(), quota.Credit/4))
			fmt.Fprint(w, piece)
			check(http.NewResponseController(w).Flush())
		}
	}))

	call(h, token, "")
	// Output: 200 one two three
}

// An API that answers in words of its own.
func ExampleConfig_errorHandler() {
	svc, _ := service()
	defer svc.Close()
	gate, err := middleware.New(svc, middleware.Config{
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, p *middleware.Problem) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(p.Status)
			fmt.Fprintf(w, `{"error":{"code":%q}}`, p.Code)
		},
	})
	check(err)

	call(gate(http.NotFoundHandler()), "", "")
	// Output: 401 {"error":{"code":"no_credentials"}}
}

// Several middlewares count failed attempts together.
func ExampleNewThrottle() {
	svc, token := service()
	defer svc.Close()
	throttle, err := middleware.NewThrottle(middleware.ThrottleConfig{Failures: 1, Window: time.Hour})
	check(err)
	read, err := middleware.New(svc, middleware.Config{Throttle: throttle})
	check(err)
	write, err := middleware.New(svc, middleware.Config{Throttle: throttle, Cost: middleware.Fixed(quota.Credit)})
	check(err)
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

	call(read(hello), "acme_live_guess", "")
	call(write(hello), token, "")
	// Output:
	// 401 {"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_token","detail":"The key is not valid."}
	// 429 {"type":"https://iana.org/assignments/http-problem-types#abnormal-usage-detected","title":"Too many failed attempts","status":429,"code":"too_many_failures","detail":"Too many requests with keys that are not valid came from this address."}
}

func ExampleNewProblem() {
	// As an adapter for another framework does it.
	p := middleware.NewProblem(fmt.Errorf("charge: %w", quota.ErrUnknownOutcome), time.Now())
	fmt.Println(p.Status, p.Code, p.RetryAfter)
	// Output: 503 unavailable 1s
}
