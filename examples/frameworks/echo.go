package frameworks

import (
	"net/http"

	"github.com/labstack/echo/v5"
)

// Echo wraps a middleware with what echo brings. Handlers find the caller in
// c.Request().Context(), not in c.
//
// A handler that returns an error leaves the answer to echo's HTTPErrorHandler,
// which writes it when the middleware is done: a cost is settled before.
func Echo(mw func(http.Handler) http.Handler, hello echo.HandlerFunc) http.Handler {
	e := echo.New()
	e.GET("/hello", hello, echo.WrapMiddleware(mw))
	return e
}
