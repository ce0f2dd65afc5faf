package web

import (
	"net/http"
	"strings"

	"github.com/keypurse/keypurse/apikey"
)

// Presented says how many credentials a request presents.
type Presented uint8

// The answers of Credentials.
const (
	PresentedNone Presented = iota
	PresentedOne
	PresentedMany // repeated or contradicting
)

// Bearer takes the token out of an Authorization header's value (RFC 6750,
// 2.1): "Bearer", in any case, then spaces, then the token. ok is false where
// the value has another scheme, or none. The token may be empty or garbage.
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

// Credentials finds the token that a request presents. The token is part of
// the header's value: nothing is copied, however long it is.
func Credentials(h http.Header, xAPIKey bool) (string, Presented) {
	lines := h["Authorization"]
	if len(lines) > 1 {
		return "", PresentedMany
	}
	var token string
	var ok bool
	if len(lines) == 1 {
		// No token is longer than MaxTokenLen, and what is longer is refused by its length.
		if token, ok = Bearer(lines[0]); ok && len(token) <= apikey.MaxTokenLen && strings.IndexByte(token, ',') >= 0 {
			return "", PresentedMany // a list: some proxies join lines with commas
		}
	}
	if xAPIKey {
		switch keys := h["X-Api-Key"]; {
		case len(keys) > 1, len(keys) == 1 && ok:
			// RFC 6750, 2: not more than one method, even where they agree.
			return "", PresentedMany
		case len(keys) == 1 && keys[0] != "":
			return keys[0], PresentedOne
		}
	}
	if !ok {
		return "", PresentedNone
	}
	return token, PresentedOne
}
