package dashboard

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/keypurse/keypurse/internal/web"
)

// reply is the answer of a route.
type reply struct {
	status   int // 0: the route's
	body     any // nil: none
	revision int64
	location string // relative to the request's path, as the mount path is the host's
	replayed bool
	file     *file // instead of a body
}

// replied is the answer to a call of the Service that gave a record or failed.
func replied(body any, revision int64, location string, err error) (*reply, error) {
	if err != nil {
		return nil, err
	}
	return &reply{body: body, revision: revision, location: location}, nil
}

// answer writes a reply.
func (c *call) answer(re *reply) {
	h := c.w.Header()
	if re.revision != 0 {
		h.Set("ETag", etag(re.revision))
	}
	if re.location != "" {
		h.Set("Location", re.location)
	}
	if re.replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	status := re.status
	if status == 0 {
		status = c.route.status
	}
	if re.file != nil {
		if err := c.stream(re.file); err != nil {
			c.refuse(err)
		}
		return
	}
	if re.body == nil {
		c.w.WriteHeader(status)
		return
	}
	if raw, ok := re.body.(json.RawMessage); ok {
		web.Write(c.w, c.r, status, typeJSON, raw)
		return
	}
	b, err := json.Marshal(re.body)
	if err != nil {
		c.refuse(&problem{Status: http.StatusInternalServerError, Code: codeCorrupt, Detail: "The answer cannot be written.", Err: err})
		return
	}
	web.Write(c.w, c.r, status, typeJSON, append(b, '\n'))
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }
