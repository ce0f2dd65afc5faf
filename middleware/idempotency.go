package middleware

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// idempotencyID joins the caller and the client's own id, so that two callers
// never share one: what goes before the id has one length for keys and one for
// members. problem is not nil where the header is not to be understood.
func (g *gate) idempotencyID(h http.Header, p saccount.Principal) (id string, problem *Problem) {
	own, why := web.IdempotencyKey(h, g.cfg.IdempotencyHeader)
	switch {
	case why != "":
		return "", badID(why)
	case own == "":
		return "", nil
	}
	return callerID(p) + own, nil
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
