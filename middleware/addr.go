package middleware

import (
	"net/http"
	"net/netip"

	"github.com/keypurse/keypurse/internal/web"
)

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
	return web.ClientAddr(r, trusted)
}
