package middleware

import "github.com/keypurse/keypurse/internal/web"

// Bearer takes the token out of an Authorization header's value (RFC 6750,
// 2.1), for adapters: "Bearer", in any case, then spaces, then the token. ok
// is false where the value has another scheme, or none. The token may be
// empty or garbage: Service.Authenticate says so.
func Bearer(value string) (token string, ok bool) { return web.Bearer(value) }
