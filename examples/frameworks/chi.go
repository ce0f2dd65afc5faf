package frameworks

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// Chi needs nothing: a middleware is a chi middleware. The same goes for
// gorilla/mux and every other router of http.Handlers.
func Chi(mw func(http.Handler) http.Handler, hello http.HandlerFunc) http.Handler {
	r := chi.NewRouter()
	r.With(mw).Get("/hello", hello)
	return r
}
