package frameworks

import (
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/keypurse/keypurse/middleware"
)

// ConnectErrors is a middleware.Config.ErrorHandler that answers in the
// protocol of the caller: Connect, gRPC-Web or gRPC. Whoever speaks none of
// them gets problem details.
func ConnectErrors() func(http.ResponseWriter, *http.Request, *middleware.Problem) {
	ew := connect.NewErrorWriter()
	return func(w http.ResponseWriter, r *http.Request, p *middleware.Problem) {
		if !ew.IsSupported(r) {
			p.ServeHTTP(w, r)
			return
		}
		// The detail, not the Problem: as an error that says why, to the log.
		e := connect.NewError(connectCode(p.Status), errors.New(p.Detail))
		e.Meta().Set("Problem-Code", p.Code)
		_ = ew.Write(w, r, e) // a client that is gone needs no answer
	}
}

func connectCode(status int) connect.Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return connect.CodeInvalidArgument
	case http.StatusUnauthorized:
		return connect.CodeUnauthenticated
	case http.StatusForbidden:
		return connect.CodePermissionDenied
	case http.StatusPaymentRequired, http.StatusTooManyRequests:
		return connect.CodeResourceExhausted
	case http.StatusConflict:
		return connect.CodeAborted
	case http.StatusServiceUnavailable:
		return connect.CodeUnavailable
	}
	return connect.CodeInternal
}

// Connect puts a middleware, whose ErrorHandler is ConnectErrors, around the
// handler of a service. Its methods find the caller in their context.
func Connect(mw func(http.Handler) http.Handler, path string, service http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path, mw(service))
	return mux
}
