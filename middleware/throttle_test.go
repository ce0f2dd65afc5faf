package middleware_test

import (
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func throttle(t testing.TB, cfg middleware.ThrottleConfig) *middleware.Throttle {
	t.Helper()
	th, err := middleware.NewThrottle(cfg)
	require.NoError(t, err)
	return th
}

func TestThrottle(t *testing.T) {
	h := saccounttest.New(t)
	known, fresh := h.Token(saccounttest.Spec{}), h.Token(saccounttest.Spec{})
	th := throttle(t, middleware.ThrottleConfig{Failures: 5, Window: 10 * time.Second})
	s := listen(t, wrap(t, h, middleware.Config{
		Cost: middleware.Fixed(1), Throttle: th, TrustedProxies: prefixes("127.0.0.0/8", "::1/128"),
	}, okay))
	from := func(addr, token string) answer { return get(t, s, token, "X-Forwarded-For", addr) }
	const bad, good = "198.51.100.1", "203.0.113.9"

	require.Equal(t, 200, from(bad, known).status)
	for range 100 {
		require.Equal(t, 401, do(t, s, "GET", "X-Forwarded-For", bad).status, "no key is no attempt")
	}
	for i := range 5 {
		require.Equal(t, 401, from(bad, "nonsense").status, "attempt %d", i)
	}
	got := from(bad, "nonsense")
	assert.Equal(t, 429, got.status)
	assert.Equal(t, "too_many_failures", got.problem(t).Code)
	assert.Equal(t, "2", got.header.Get("Retry-After"))
	assert.Equal(t, 429, from(bad, fresh).status, "a key that was never seen is not looked at")
	assert.Equal(t, 200, from(bad, known).status, "a key in use is not locked out by its neighbours")
	assert.Equal(t, 200, from(good, fresh).status, "other addresses are never touched")
	assert.Equal(t, 200, from(bad, fresh).status, "and now it has been seen")
	assert.Equal(t, 401, do(t, s, "GET", "X-Forwarded-For", bad).status)

	// Retry-After is not early: by then one attempt is free, and only one.
	h.Advance(2*time.Second - time.Nanosecond)
	assert.Equal(t, 429, from(bad, "nonsense").status)
	h.Advance(time.Nanosecond)
	assert.Equal(t, 401, from(bad, "nonsense").status)
	assert.Equal(t, 429, from(bad, "nonsense").status)
	// A clock that is set back keeps nobody out for longer than the window.
	h.Advance(-48 * time.Hour)
	got = from(bad, "nonsense")
	assert.Equal(t, "2", got.header.Get("Retry-After"))
	h.Advance(96 * time.Hour)
	for range 5 {
		assert.Equal(t, 401, from(bad, "nonsense").status)
	}
	assert.Equal(t, 429, from(bad, "nonsense").status)
}

// TestRevokedKeyIsAFailure: a key that was good is forgotten when it is not.
func TestRevokedKeyIsAFailure(t *testing.T) {
	h := saccounttest.New(t)
	token, key := h.Issue(saccounttest.Spec{})
	th := throttle(t, middleware.ThrottleConfig{Failures: 2})
	s := listen(t, wrap(t, h, middleware.Config{Throttle: th}, okay))
	require.Equal(t, 200, get(t, s, token.Reveal()).status)
	require.NoError(t, h.Service.DisableKey(t.Context(), saccounttest.Actor, saccounttest.Org, key.ID))
	for _, want := range []int{401, 401, 429} {
		assert.Equal(t, want, get(t, s, token.Reveal()).status)
	}
}

func TestThrottleNetworks(t *testing.T) {
	th := throttle(t, middleware.ThrottleConfig{Failures: 1})
	addr := netip.MustParseAddr
	th.Failed(addr("2001:db8:0:1::1"), "x", noon)
	assert.Positive(t, th.Wait(addr("2001:db8:0:1:ffff::9"), "y", noon), "a /64 is one client")
	assert.Zero(t, th.Wait(addr("2001:db8:0:2::1"), "y", noon))
	th.Failed(addr("::ffff:192.0.2.1"), "x", noon)
	assert.Positive(t, th.Wait(addr("192.0.2.1"), "y", noon))
	assert.Zero(t, th.Wait(addr("192.0.2.2"), "y", noon))
	th.Failed(netip.Addr{}, "x", noon)
	assert.Zero(t, th.Wait(netip.Addr{}, "y", noon), "what has no address has no neighbours to bother")

	off := throttle(t, middleware.ThrottleConfig{Failures: -1})
	for range 100 {
		off.Failed(addr("192.0.2.1"), "x", noon)
	}
	assert.Zero(t, off.Wait(addr("192.0.2.1"), "y", noon))
}

// TestThrottleMemory: any number of addresses takes no more room than the bound,
// and the address that fails most is not the one that is forgotten.
func TestThrottleMemory(t *testing.T) {
	th := throttle(t, middleware.ThrottleConfig{Failures: 10, Addresses: 1024})
	worst := netip.MustParseAddr("192.0.2.66")
	fill := func(n, from int) {
		for i := range n {
			if i%64 == 0 {
				th.Failed(worst, "w", noon)
			}
			k := from + i
			th.Failed(netip.AddrFrom4([4]byte{byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k)}), "x", noon)
		}
	}
	fill(20_000, 1<<28)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fill(200_000, 1<<29)
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
	assert.Positive(t, th.Wait(worst, "y", noon))
	runtime.KeepAlive(th)
}

func TestThrottleRace(t *testing.T) {
	th := throttle(t, middleware.ThrottleConfig{Failures: 100, Addresses: 64})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				a := netip.AddrFrom4([4]byte{10, 0, byte(g), byte(i)})
				th.Failed(a, "x", noon)
				th.Wait(a, strconv.Itoa(i), noon.Add(time.Duration(i)*time.Second))
				th.Passed(strconv.Itoa(i))
			}
		})
	}
	wg.Wait()
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, 1})
		require.Zero(t, th.Wait(a, "y", noon), "after %d failures", i)
		th.Failed(a, "x", noon)
	}
	assert.Positive(t, th.Wait(netip.AddrFrom4([4]byte{192, 0, 2, 1}), "y", noon))
}

func TestThrottleConfig(t *testing.T) {
	for _, c := range []middleware.ThrottleConfig{
		{Failures: 1<<20 + 1}, {Window: time.Millisecond}, {Window: -1}, {Window: 25 * time.Hour}, {Addresses: -1}, {Addresses: 1 << 30},
	} {
		_, err := middleware.NewThrottle(c)
		require.ErrorIs(t, err, saccount.ErrInvalid, "%+v", c)
	}
}
