package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const idempotencyHeader = "Idempotency-Key"

func (c *call) idempotencyKey() (string, error) {
	id, why := web.IdempotencyKey(c.r.Header, idempotencyHeader)
	if why != "" {
		return "", badHeader(idempotencyHeader, why)
	}
	return id, nil
}

// once runs the route, guarded by If-Match and, where the request has an
// Idempotency-Key, so that it is done once. Who asks is part of the id, and
// what was asked of its mark: path and body, byte by byte.
func (c *call) once() (*reply, error) {
	g := saccount.Guard{Revision: c.match.revision}
	id := ""
	if c.route.once {
		var err error
		if id, err = c.idempotencyKey(); err != nil {
			return nil, err
		}
	}
	org := c.partition()
	if id != "" {
		if err := c.buffer(); err != nil {
			return nil, err
		}
		g.Request = saccount.Request{ID: "http:" + digest([]byte(c.caller.Actor), []byte(id)), Mark: digest([]byte(c.route.id), []byte(c.r.URL.EscapedPath()), c.sent)}
		done, err := c.svc.Done(c.ctx, org, g.Request.ID)
		switch {
		case err == nil:
			return c.replay(done, g.Request)
		case !errors.Is(err, saccount.ErrNotFound):
			return nil, err
		}
	}
	if g != (saccount.Guard{}) {
		c.guarded = saccount.WithGuard(c.ctx, g)
	} else {
		c.guarded = c.ctx
	}
	re, err := c.route.do(c)
	if errors.Is(err, saccount.ErrDone) { // by another, since it was looked up
		done, err := c.svc.Done(c.ctx, org, g.Request.ID)
		if err != nil {
			return nil, err
		}
		return c.replay(done, g.Request)
	}
	return re, c.stale(err)
}

// partition is where the route's requests are remembered.
func (c *call) partition() string {
	if org, ok := c.params["org"]; ok {
		return org
	}
	return saccount.HostPartition
}

// buffer reads the body ahead, so that it can be told from another.
func (c *call) buffer() error {
	if c.r.Body == nil || c.r.ContentLength == 0 {
		return nil
	}
	b, err := c.raw(typeJSON)
	if err != nil {
		return err
	}
	c.sent = b
	c.r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

// replay answers a request that was done before, with the record as it is now.
func (c *call) replay(d saccount.Done, r saccount.Request) (*reply, error) {
	if d.Mark != r.Mark {
		return nil, &problem{Status: 422, Code: codeIDConflict, Detail: "This Idempotency-Key was used for another request; send a new one for new work."}
	}
	re, err := c.show(d.Subject)
	if err != nil {
		return nil, err
	}
	re.replayed = true
	if made, ok := c.route.result.(interface{ withoutToken(any) any }); ok {
		re.body = made.withoutToken(re.body)
	}
	return re, nil
}

// show answers with a record, deleted or not.
func (c *call) show(s quota.Subject) (*reply, error) {
	org := c.partition()
	if s.Kind() == quota.KindOrg {
		org = s.ID()
	}
	for _, k := range resources {
		if k.kind.String() == s.Kind() {
			rec, err := k.get(c, org, s.ID(), saccount.WithDeleted)
			if err != nil {
				return nil, err
			}
			return &reply{body: rec.view, revision: rec.revision}, nil
		}
	}
	if s.Kind() == "recipient" {
		return c.recipient(c.svc.GetRecipient(c.ctx, org, s.ID()))
	}
	return nil, notFound("record")
}

// digest tells lists of values apart.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256(p)
		h.Write(sum[:]) // a hash.Hash never returns an error
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
