package middleware

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/keypurse/keypurse/saccount"
)

// maxClientID bounds a client's own id. With what goes before it, it is within
// quota.MaxIDLen.
const maxClientID = 128

// idempotencyID joins the caller and the client's own id, so that two callers
// never share one: what goes before the id has one length for keys and one for
// members. problem is not nil where the header is not to be understood.
func (g *gate) idempotencyID(h http.Header, p saccount.Principal) (id string, problem *Problem) {
	lines := h[g.cfg.IdempotencyHeader]
	switch {
	case len(lines) == 0:
		return "", nil
	case len(lines) > 1:
		return "", badID("it was sent more than once")
	}
	own, why := clientID(lines[0])
	if why != "" {
		return "", badID(why)
	}
	return callerID(p) + own, nil
}

// clientID reads the value of an Idempotency-Key header: a structured-field
// string (RFC 9651, 3.3.3), as the draft wants it, or the bare characters that
// most clients send. Both forms of one id are the same id.
func clientID(v string) (id, why string) {
	if len(v) > 2*maxClientID+2 {
		return "", "it is too long, give at most 128 characters"
	}
	if len(v) > 0 && v[0] == '"' {
		if len(v) < 2 || v[len(v)-1] != '"' {
			return "", "its closing quote is missing"
		}
		b := make([]byte, 0, len(v))
		for i := 1; i < len(v)-1; i++ {
			c := v[i]
			switch {
			case c == '\\':
				i++
				if c = v[i]; i == len(v)-1 || c != '"' && c != '\\' {
					return "", "a backslash in it stands before neither a quote nor a backslash"
				}
			case c == '"':
				return "", "a quote stands in the middle of it"
			}
			b = append(b, c)
		}
		v = string(b)
	}
	if v == "" || len(v) > maxClientID {
		return "", "give 1 to 128 characters"
	}
	for i := range len(v) {
		if v[i] < 0x20 || v[i] > 0x7e {
			return "", "give printable ASCII characters only"
		}
	}
	return v, ""
}

// callerID goes before a client's own id. Keys' ids have one length; those of
// members, which the host chooses, are hashed to one.
func callerID(p saccount.Principal) string {
	if k := p.KeyID(); k != "" {
		return "key:" + k + ":"
	}
	sum := sha256.Sum256([]byte(p.MemberID()))
	return "member:" + base64.RawURLEncoding.EncodeToString(sum[:]) + ":"
}

type replayedKey struct{}

// Replayed reports whether the request repeats one that was charged before
// under the same id: see Config.Replays.
func Replayed(ctx context.Context) bool {
	v, _ := ctx.Value(replayedKey{}).(bool)
	return v
}

func badID(why string) *Problem {
	return &Problem{
		Status: 400, Code: CodeInvalidRequest,
		Detail: "The idempotency key cannot be used: " + why + ".",
	}
}
