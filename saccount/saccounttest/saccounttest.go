// Package saccounttest gives the tests of a host a Service that is quick,
// forgets everything, and goes by a clock that the test sets:
//
//	h := saccounttest.New(t)
//	token := h.Token(saccounttest.Spec{Monthly: 2 * quota.Credit})
//	srv := httptest.NewServer(myapp.Handler(h.Service))
//
// It stands on memstore, which is the real thing without a disk: what a charge
// does in it is what it does on every store. For tests only.
package saccounttest

import (
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

// Start is when a Harness's clock begins: a Tuesday at noon UTC, in the middle
// of a month.
var Start = time.Date(2030, time.January, 15, 12, 0, 0, 0, time.UTC)

// Org is the id of the organization that every Harness has.
const Org = "acme"

// Actor is who makes what a Harness makes.
const Actor = saccount.Actor("test")

// Harness is a Service on memstore with a clock. Safe for concurrent use.
type Harness struct {
	// Service is what the code under test is given.
	Service *saccount.Service
	// Store is what the Service stands on.
	Store *memstore.Store

	t   testing.TB
	mu  sync.Mutex
	now time.Time
	n   int
}

// Spec describes the service account and key of a token. Its zero value makes
// a key without limits, scopes and expiry.
type Spec struct {
	// Monthly is the account's limit a month; zero: none. For a limit of
	// nothing, or another period, give Limits.
	Monthly quota.Credits
	Limits  saccount.Limits // of the account
	Key     saccount.KeySpec
}

// New makes a Harness with the organization Org. It is closed when the test
// ends. A configuration that is wrong fails the test; its Now is not used.
func New(t testing.TB, cfg ...saccount.Config) *Harness {
	t.Helper()
	h := &Harness{Store: memstore.New(), t: t, now: Start}
	var c saccount.Config
	if len(cfg) > 0 {
		c = cfg[0]
	}
	c.Now = h.Now
	svc, err := saccount.New(h.Store, c)
	if err != nil {
		t.Fatalf("saccounttest: %v", err)
	}
	h.Service = svc
	t.Cleanup(func() {
		if err := svc.Close(); err != nil {
			t.Errorf("saccounttest: close: %v", err)
		}
		_ = h.Store.Close() // memory has nothing to say
	})
	if _, err := svc.CreateOrg(t.Context(), Actor, saccount.OrgSpec{ID: Org, Name: "Acme"}); err != nil {
		t.Fatalf("saccounttest: %v", err)
	}
	return h
}

// Now is what the Service's clock says.
func (h *Harness) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Set sets the clock, to any instant.
func (h *Harness) Set(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

// Advance moves the clock on; a negative d moves it back.
func (h *Harness) Advance(d time.Duration) { h.Set(h.Now().Add(d)) }

// Issue makes a service account of Org with a key. What is wrong fails the test.
func (h *Harness) Issue(s Spec) (apikey.Token, saccount.Key) {
	h.t.Helper()
	h.mu.Lock()
	h.n++
	name := "Account " + strconv.Itoa(h.n)
	h.mu.Unlock()
	if s.Monthly != 0 {
		if s.Limits == nil {
			s.Limits = saccount.Limits{}
		}
		s.Limits[""] = saccount.NewLimit(s.Monthly, quota.Period{Unit: quota.Month})
	}
	ctx := h.t.Context()
	a, err := h.Service.CreateAccount(ctx, Actor, Org, saccount.AccountSpec{Name: name, Limits: s.Limits})
	if err != nil {
		h.t.Fatalf("saccounttest: %v", err)
	}
	if s.Key.Name == "" {
		s.Key.Name = name + "'s key"
	}
	token, key, err := h.Service.CreateKey(ctx, Actor, Org, a.ID, s.Key)
	if err != nil {
		h.t.Fatalf("saccounttest: %v", err)
	}
	return token, key
}

// Token is Issue for those who only need the plaintext, as a client sends it.
func (h *Harness) Token(s Spec) string {
	h.t.Helper()
	token, _ := h.Issue(s)
	return token.Reveal()
}

// Principal is Token, authenticated.
func (h *Harness) Principal(s Spec) saccount.Principal {
	h.t.Helper()
	p, err := h.Service.Authenticate(h.t.Context(), h.Token(s), netip.Addr{})
	if err != nil {
		h.t.Fatalf("saccounttest: %v", err)
	}
	return p
}
