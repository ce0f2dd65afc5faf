package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds the entries of X-Forwarded-For that are looked at.
const maxHops = 64

// ClientAddr is the address that a request comes from. It is the
// connection's, unless that is one of the trusted networks: then
// X-Forwarded-For is read from right to left, over all of its lines, and the
// first address that is not trusted is the client's; where all are trusted,
// the leftmost. Entries may have a port. IPv4-mapped addresses come out as
// IPv4, zones are dropped.
//
// The result is not valid where an address cannot be read, or more than 64
// proxies stand in the way: a key with an allowlist is then refused.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := connAddr(r.RemoteAddr)
	if len(trusted) == 0 || !contains(trusted, peer) {
		return peer
	}
	last, hops := peer, 0
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var entry string
			if rest, entry, more = lastEntry(rest); entry == "" {
				continue // an empty list element means nothing (RFC 9110, 5.6.1.2)
			}
			if hops++; hops > maxHops {
				return netip.Addr{}
			}
			if last = forwardedAddr(entry); !last.IsValid() || !contains(trusted, last) {
				return last
			}
		}
	}
	return last
}

// lastEntry splits the last element off a comma-separated list.
func lastEntry(list string) (rest, entry string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", strings.Trim(list, " \t"), false
	}
	return list[:i], strings.Trim(list[i+1:], " \t"), true
}

// connAddr reads http.Request.RemoteAddr.
func connAddr(s string) netip.Addr {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return plain(a.Addr())
	}
	if a, err := netip.ParseAddr(s); err == nil { // set so by some proxies' middlewares
		return plain(a)
	}
	return netip.Addr{}
}

// forwardedAddr reads "192.0.2.1", "192.0.2.1:80", "2001:db8::1",
// "[2001:db8::1]" and "[2001:db8::1]:80".
func forwardedAddr(s string) netip.Addr {
	const longest = 128 // an address, a zone and a port, with room to spare
	if len(s) > longest {
		return netip.Addr{}
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return plain(a)
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return plain(a.Addr())
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil && a.Is6() {
			return plain(a)
		}
	}
	return netip.Addr{}
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if q, ok := PlainPrefix(p); ok && q.Contains(a) {
			return true
		}
	}
	return false
}

// PlainPrefix turns a network of IPv4-mapped addresses into the IPv4 network
// that it stands for. ok is false for what is no network.
func PlainPrefix(p netip.Prefix) (q netip.Prefix, ok bool) {
	if !p.IsValid() {
		return q, false
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return q, false
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}
