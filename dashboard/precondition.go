package dashboard

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// ifMatch is what If-Match says (RFC 9110, 13.1.1): a revision, or * for
// whatever there is.
type ifMatch struct {
	given    bool
	revision int64 // 0: *
}

// precondition reads If-Match, as far as the route heeds it. A single ETag is
// read: what was read has one.
func (c *call) readMatch() error {
	lines := c.r.Header["If-Match"]
	switch {
	case len(lines) == 0 && c.route.match == matchNeeded:
		return &problem{Status: http.StatusPreconditionRequired, Code: codeNoMatch, Detail: "Say with If-Match what you have read: the ETag of the record, or * for whatever is there."}
	case len(lines) == 0:
		return nil
	case c.route.match == matchNone:
		return badHeader("If-Match", "this operation has no use for it")
	case len(lines) > 1:
		return badHeader("If-Match", "give it once")
	}
	c.match.given = true
	v := strings.Trim(lines[0], " \t")
	if v == "*" {
		return nil
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(v, `"`), `"`), 10, 64)
	if err != nil || n < 1 || v != etag(n) {
		return badHeader("If-Match", `give one ETag as it was answered, such as "3", or *`)
	}
	c.match.revision = n
	return nil
}

// stale turns a conflict into what it is under an If-Match.
func (c *call) stale(err error) error {
	if c.match.revision != 0 && errors.Is(err, saccount.ErrConflict) {
		return &problem{Status: http.StatusPreconditionFailed, Code: codeStale, Detail: "It was changed since you read it: read it again, and decide anew.", Err: err}
	}
	return err
}
