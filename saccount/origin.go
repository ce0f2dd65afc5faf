package saccount

import (
	"context"
	"net/netip"
	"strings"
	"unicode"
)

// Origin is where a management call comes from. It goes into the audit log.
type Origin struct {
	Addr    netip.Addr // the client's address; the zero Addr: not known
	Request string     // the host's id of the request, as in its own logs; what is beyond 128 bytes is left out
}

type originKey struct{}

// WithOrigin is a context under which the audit entries of management calls
// say where they come from. A host's handler, or a middleware around it, sets
// it once a request.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is the Origin that WithOrigin put there; ok is false where there is
// none.
func OriginOf(ctx context.Context) (o Origin, ok bool) {
	o, ok = ctx.Value(originKey{}).(Origin)
	return o, ok
}

const maxOriginRequest = 128 // bytes

// clean is the id as it is kept: it may come from a client's header, and must
// not fail a change.
func (o Origin) clean() (id string, addr string) {
	id = o.Request
	if len(id) > maxOriginRequest {
		id = id[:maxOriginRequest]
	}
	id = strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) || unicode.Is(unicode.Bidi_Control, c) {
			return -1
		}
		return c
	}, id)
	if o.Addr.IsValid() {
		addr = o.Addr.Unmap().String()
	}
	return id, addr
}
