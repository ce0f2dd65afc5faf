package apikey

import "strings"

// Prefix says whose tokens these are and, where it has an environment part, for
// which environment: "acme", "acme_live". The zero Prefix is no prefix: nothing
// is generated or parsed with it. Prefixes may be compared with == and used by
// any number of goroutines.
type Prefix struct {
	lead string // the prefix and the underscore after it
}

// ParsePrefix checks a prefix: [a-z][a-z0-9]*, then optionally one underscore
// and an environment [a-z0-9]+, at most [MaxPrefixLen] characters in all.
// Anything else is refused with ErrInvalid. Choose one that no other vendor
// uses: secret scanners go by it. Tokens made under one prefix are malformed
// under every other, so changing it ends all keys.
func ParsePrefix(s string) (Prefix, error) {
	if len(s) > MaxPrefixLen {
		return Prefix{}, invalid("parse prefix", "%d characters, want at most %d", len(s), MaxPrefixLen)
	}
	brand, env, hasEnv := strings.Cut(s, "_")
	if brand == "" || brand[0] < 'a' || brand[0] > 'z' || !lowerAlnum(brand) {
		return Prefix{}, invalid("parse prefix", "want a lower-case letter, then lower-case letters and digits, such as acme or acme_live")
	}
	if hasEnv && (env == "" || !lowerAlnum(env)) {
		return Prefix{}, invalid("parse prefix", "want one underscore and then an environment of lower-case letters and digits, such as acme_live")
	}
	return Prefix{lead: s + "_"}, nil
}

// String returns the prefix as it was parsed, without the underscore that
// separates it from the id; empty for the zero Prefix.
func (p Prefix) String() string { return strings.TrimSuffix(p.lead, "_") }

// IDOf is the id in a token of this prefix, as part of token; ok is false where
// length or prefix are wrong. It looks at nothing else: the token may be malformed,
// and the id no [ValidID].
func (p Prefix) IDOf(token string) (id string, ok bool) {
	n := len(p.lead)
	if n == 0 || len(token) != n+bodyLen || token[:n] != p.lead {
		return "", false
	}
	return token[n : n+IDLen], true
}

func (p Prefix) tokenLen() int { return len(p.lead) + bodyLen }

func lowerAlnum(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
