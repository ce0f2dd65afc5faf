package dashboard

import (
	"context"
	"errors"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// record is any record as a route answers with it.
type record struct {
	view     any
	revision int64
	limits   []quota.Limit
	role     saccount.Role // of a management key
}

// resource is one kind of record: what all of them can be asked.
type resource struct {
	kind    saccount.Kind
	word    string // in sentences
	get     func(c *call, org, id string, with ...saccount.Include) (record, error)
	update  func(c *call, ctx context.Context, org, id string, u saccount.Update) (record, error)
	edit    func(c *call, rec record, body []byte) (saccount.Update, error) // of a merge patch
	disable func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error
	enable  func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error
	remove  func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error
}

// resources are all kinds.
var resources = []*resource{orgs, accounts, members, keys, managementKeys}

// at are the organization and the id that the path names: an organization's
// own path has no other id.
func (k *resource) at(c *call) (org, id string) {
	if k.kind == saccount.KindOrg {
		return c.org(), c.org()
	}
	return c.partition(), c.id()
}

// load reads the path's record, and refuses a management key whose role is
// above the caller's: whoever changes it could take it over.
func (k *resource) load(c *call, with ...saccount.Include) (record, error) {
	org, id := k.at(c)
	rec, err := k.get(c, org, id, with...)
	if err == nil && rec.role > c.caller.Role && c.route.changes() {
		err = roleNeeded(rec.role)
	}
	return rec, err
}

func (k *resource) read(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	deleted, err := truth(q, "deleted")
	if err != nil {
		return nil, err
	}
	var with []saccount.Include
	if deleted {
		with = append(with, saccount.WithDeleted)
	}
	rec, err := k.load(c, with...)
	if err != nil {
		return nil, err
	}
	return &reply{body: rec.view, revision: rec.revision}, nil
}

// maxTries bounds how often a patch of whatever is there is made anew.
const maxTries = 16

func (k *resource) patch(c *call) (*reply, error) {
	body, err := c.raw(typePatch, typeJSON)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		rec, err := k.load(c)
		if err != nil {
			return nil, err
		}
		if c.match.revision != 0 && c.match.revision != rec.revision {
			return nil, saccount.ErrConflict
		}
		u, err := k.edit(c, rec, body)
		if err != nil {
			return nil, err
		}
		u.Revision = rec.revision
		org, id := k.at(c)
		next, err := k.update(c, c.ctx, org, id, u)
		if err == nil {
			return &reply{body: next.view, revision: next.revision}, nil
		}
		if c.match.revision != 0 || try == maxTries || !errors.Is(err, saccount.ErrConflict) {
			return nil, err
		}
	}
}

// act is a change that has no body, and answers with the record.
func (k *resource) act(do func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error) func(c *call) (*reply, error) {
	return func(c *call) (*reply, error) {
		if c.route.body == nil {
			if err := c.empty(); err != nil {
				return nil, err
			}
		}
		if _, err := k.load(c); err != nil {
			return nil, err
		}
		org, id := k.at(c)
		if err := do(c.svc, c.guarded, c.caller.Actor, org, id); err != nil {
			return nil, err
		}
		return c.show(quota.NewSubject(k.kind.String(), id))
	}
}

func (k *resource) delete(c *call) (*reply, error) {
	if err := c.empty(); err != nil {
		return nil, err
	}
	if _, err := k.load(c); err != nil {
		return nil, err
	}
	org, id := k.at(c)
	if err := k.remove(c.svc, c.guarded, c.caller.Actor, org, id); err != nil {
		return nil, err
	}
	return &reply{}, nil
}
