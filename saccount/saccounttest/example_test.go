package saccounttest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// newHandler is what a host wants to test: its own handler behind the
// middleware, for a credit a request.
func newHandler(svc *saccount.Service) (http.Handler, error) {
	guard, err := middleware.New(svc, middleware.Config{Cost: middleware.Fixed(quota.Credit)})
	if err != nil {
		return nil, err
	}
	return guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := saccount.FromContext(r.Context())
		_, _ = io.WriteString(w, "hello, "+caller.KeyName())
	})), nil
}

// A test of a user's own handler is TestHandler, which go test runs.
func Example() {
	_ = TestHandler
}

// Two credits pay for two requests.
func TestHandler(t *testing.T) {
	h := saccounttest.New(t)
	handler, err := newHandler(h.Service)
	if err != nil {
		t.Fatal(err)
	}
	token := h.Token(saccounttest.Spec{Monthly: 2 * quota.Credit})
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("request %d: status %d, want %d", i+1, w.Code, want)
		}
	}
}
