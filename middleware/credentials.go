package middleware

import (
	"net/http"
	"strings"
)

// maxTokenLen bounds what is looked at for a comma. No token is longer, and
// what is longer is refused by its length.
const maxTokenLen = 256

type presented uint8

const (
	presentedNone presented = iota
	presentedOne
	presentedMany // repeated or contradicting
)

// Bearer takes the token out of an Authorization header's value (RFC 6750,
// 2.1), for adapters: "Bearer", in any case, then spaces, then the token. ok
// is false where the value has another scheme, or none. The token may be
// empty or garbage: Service.Authenticate says so.
func Bearer(value string) (token string, ok bool) {
	const scheme = "bearer"
	if len(value) < len(scheme) || value[:len(scheme)] != "Bearer" && !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	rest := value[len(scheme):]
	if rest == "" {
		return "", true
	}
	if rest[0] != ' ' {
		return "", false
	}
	return strings.Trim(rest, " "), true
}

// credentials finds the token that a request presents. The token is part of
// the header's value: nothing is copied, however long it is.
func credentials(h http.Header, xAPIKey bool) (string, presented) {
	lines := h["Authorization"]
	if len(lines) > 1 {
		return "", presentedMany
	}
	var token string
	var ok bool
	if len(lines) == 1 {
		if token, ok = Bearer(lines[0]); ok && len(token) <= maxTokenLen && strings.IndexByte(token, ',') >= 0 {
			return "", presentedMany // a list: some proxies join lines with commas
		}
	}
	if xAPIKey {
		switch keys := h["X-Api-Key"]; {
		case len(keys) > 1, len(keys) == 1 && ok:
			// RFC 6750, 2: not more than one method, even where they agree.
			return "", presentedMany
		case len(keys) == 1 && keys[0] != "":
			return keys[0], presentedOne
		}
	}
	if !ok {
		return "", presentedNone
	}
	return token, presentedOne
}
