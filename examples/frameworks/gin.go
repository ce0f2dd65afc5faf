package frameworks

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// GinMiddleware makes a gin middleware of one for net/http. The rest of gin's
// chain runs within it, so that what is reserved is settled when the handlers
// are done, and a panic passes through on its way to gin.Recovery.
//
// Where the request was refused the chain is aborted: without that, gin would
// go on to the handlers by itself. Handlers write to gin's own writer, which a
// middleware that wraps writers would not see; this one wraps none.
func GinMiddleware(mw func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted := false
		mw(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			admitted, c.Request = true, r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !admitted {
			c.Abort()
		}
	}
}

// Gin is a router with one route behind a key.
func Gin(mw func(http.Handler) http.Handler, hello gin.HandlerFunc) http.Handler {
	r := gin.New()
	r.Use(gin.Recovery())
	r.GET("/hello", GinMiddleware(mw), hello)
	return r
}
