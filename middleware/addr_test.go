package middleware_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

var proxies = prefixes("10.0.0.0/8", "2001:db8:aaaa::/48", "::ffff:172.16.0.0/108")

func TestClientAddr(t *testing.T) {
	const proxy = "10.0.0.1:4711"
	for _, c := range []struct {
		peer string
		xff  []string
		want string // empty: not valid
	}{
		// The connection's own.
		{"192.0.2.1:80", nil, "192.0.2.1"},
		{"[2001:db8::1]:80", nil, "2001:db8::1"},
		{"[::ffff:192.0.2.1]:80", nil, "192.0.2.1"},
		{"[fe80::1%eth0]:80", nil, "fe80::1"},
		{"192.0.2.1", nil, "192.0.2.1"},
		{"", nil, ""},
		{"@", nil, ""},
		{"pipe", nil, ""},
		{"localhost:80", nil, ""},
		{"192.0.2.1:80:80", nil, ""},
		// A stranger's header is never looked at.
		{"192.0.2.1:80", []string{"198.51.100.9"}, "192.0.2.1"},
		{"192.0.2.1:80", []string{"10.0.0.1, 10.0.0.2"}, "192.0.2.1"},
		{"192.0.2.1:80", []string{"garbage"}, "192.0.2.1"},
		{"", []string{"198.51.100.9"}, ""},
		// A proxy's is.
		{proxy, nil, "10.0.0.1"},
		{proxy, []string{""}, "10.0.0.1"},
		{proxy, []string{"198.51.100.9"}, "198.51.100.9"},
		{"[::ffff:10.0.0.1]:80", []string{"198.51.100.9"}, "198.51.100.9"},
		{"172.16.0.9:80", []string{"198.51.100.9"}, "198.51.100.9"},
		{"[2001:db8:aaaa::1]:80", []string{"198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"203.0.113.1, 198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"203.0.113.1", "198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"203.0.113.1,198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9, 10.1.1.1"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9", "10.1.1.1"}, "198.51.100.9"},
		{proxy, []string{"203.0.113.1, 198.51.100.9, 10.1.1.1", "10.2.2.2, 172.16.3.3"}, "198.51.100.9"},
		{proxy, []string{"10.9.9.9, 10.1.1.1"}, "10.9.9.9"},
		{proxy, []string{"10.9.9.9"}, "10.9.9.9"},
		// A client that writes the header itself gets nothing for it.
		{proxy, []string{"127.0.0.1, 198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"10.0.0.7, 198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"garbage, 198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{strings.Repeat("9.9.9.9, ", 1000) + "198.51.100.9"}, "198.51.100.9"},
		// Forms of an entry.
		{proxy, []string{"198.51.100.9:8080"}, "198.51.100.9"},
		{proxy, []string{"  198.51.100.9\t"}, "198.51.100.9"},
		{proxy, []string{"2001:db8::9"}, "2001:db8::9"},
		{proxy, []string{"[2001:db8::9]"}, "2001:db8::9"},
		{proxy, []string{"[2001:db8::9]:443"}, "2001:db8::9"},
		{proxy, []string{"2001:DB8::9"}, "2001:db8::9"},
		{proxy, []string{"fe80::9%eth0"}, "fe80::9"},
		{proxy, []string{"[fe80::9%25eth0]:80"}, "fe80::9"},
		{proxy, []string{"::ffff:198.51.100.9"}, "198.51.100.9"},
		{proxy, []string{"[::ffff:198.51.100.9]:80"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9, ::ffff:10.1.1.1"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9, 2001:db8:aaaa::7"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9, "}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9,,,10.1.1.1,"}, "198.51.100.9"},
		{proxy, []string{"198.51.100.9", ""}, "198.51.100.9"},
		// What cannot be read is not valid.
		{proxy, []string{"unknown"}, ""},
		{proxy, []string{"198.51.100.9, unknown"}, ""},
		{proxy, []string{"198.51.100.9, _hidden, 10.1.1.1"}, ""},
		{proxy, []string{"198.51.100.256"}, ""},
		{proxy, []string{"198.51.100"}, ""},
		{proxy, []string{"198.051.100.009"}, ""},
		{proxy, []string{"198.51.100.9:99999"}, ""},
		{proxy, []string{"[198.51.100.9]"}, ""},
		{proxy, []string{"[2001:db8::9"}, ""},
		{proxy, []string{"2001:db8::9:zz"}, ""},
		{proxy, []string{`"198.51.100.9"`}, ""},
		{proxy, []string{"for=198.51.100.9"}, ""},
		{proxy, []string{"198.51.100.9 10.1.1.1"}, ""},
		{proxy, []string{"0x0a000001"}, ""},
		{proxy, []string{"167772161"}, ""},
		{proxy, []string{"198.51.100.9\x00"}, ""},
		{proxy, []string{"\xff\xfe"}, ""},
		{proxy, []string{"fe80::9%" + strings.Repeat("z", 1<<20)}, ""},
		{proxy, []string{"198.51.100.9, " + strings.Repeat("10.1.1.1, ", 64)}, ""},
		{proxy, []string{"198.51.100.9, " + strings.Repeat("10.1.1.1, ", 63)}, "198.51.100.9"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.xff}}
		var want netip.Addr
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		assert.Equal(t, want, middleware.ClientAddr(r, proxies), "%s %.80q", c.peer, c.xff)
	}
}

// TestAllowlistFailsClosed: an address that cannot be read is on no list.
func TestAllowlistFailsClosed(t *testing.T) {
	h := saccounttest.New(t)
	token := h.Token(saccounttest.Spec{Key: saccount.KeySpec{AllowFrom: prefixes("198.51.100.0/24")}})
	s := listen(t, wrap(t, h, middleware.Config{Cost: middleware.Fixed(quota.Credit), TrustedProxies: prefixes("127.0.0.0/8", "::1/128")}, okay))
	const xff = "X-Forwarded-For"
	assert.Equal(t, 200, get(t, s, token, xff, "198.51.100.9").status)
	assert.Equal(t, 200, get(t, s, token, xff, "10.0.0.1", xff, "[::ffff:198.51.100.9]:80").status)
	assert.Equal(t, 403, get(t, s, token).status)
	assert.Equal(t, 403, get(t, s, token, xff, "198.51.100.9, 192.0.2.1").status)
	assert.Equal(t, 403, get(t, s, token, xff, "198.51.100.9, unknown").status)

	direct := listen(t, wrap(t, h, middleware.Config{}, okay))
	assert.Equal(t, 403, get(t, direct, token, xff, "198.51.100.9").status)
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:80", "198.51.100.9", "10.0.0.2")
	f.Add("192.0.2.1:80", "198.51.100.9", "")
	f.Add("[2001:db8:aaaa::1%x]:80", "[2001:db8::9]:443,", "unknown")
	f.Add("10.0.0.1:80", "fe80::9%eth0, ::ffff:10.0.0.1", ",, ,")
	f.Add("", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, peer, one, two string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {one, two}}}
		direct := middleware.ClientAddr(r, nil)
		got := middleware.ClientAddr(r, proxies)
		trusted := func(a netip.Addr) bool {
			for _, p := range prefixes("10.0.0.0/8", "2001:db8:aaaa::/48", "172.16.0.0/12") {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
		if !trusted(direct) && got != direct {
			t.Fatalf("%q is no proxy, but %q, %q made %v of it", peer, one, two, got)
		}
		if got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%v is not plain", got)
		}
		// Whatever a client writes before it, the last hop decides.
		r.Header["X-Forwarded-For"] = []string{one, two, "198.51.100.77"}
		if got := middleware.ClientAddr(r, proxies); trusted(direct) && got != netip.MustParseAddr("198.51.100.77") {
			t.Fatalf("%q, %q: %v", one, two, got)
		}
	})
}

func TestTrustedProxiesAreChecked(t *testing.T) {
	h := saccounttest.New(t)
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 99), netip.MustParsePrefix("::ffff:0.0.0.0/8")} {
		_, err := middleware.New(h.Service, middleware.Config{TrustedProxies: []netip.Prefix{p}})
		require.ErrorIs(t, err, saccount.ErrInvalid)
		require.ErrorContains(t, err, "TrustedProxies")
	}
}
