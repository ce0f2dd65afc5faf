package dashboard

import (
	"context"
	"net/netip"
	"reflect"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/saccount"
)

// managementKeyEdit is what can be changed of a management key.
type managementKeyEdit struct {
	Name      string         `json:"name" doc:"1 to 100 characters" schema:"minLength=1"`
	AllowFrom []netip.Prefix `json:"allow_from,omitempty" doc:"ranges of addresses; absent: from everywhere"`
	Expires   *time.Time     `json:"expires,omitempty"`
}

// managementKeySpec describes a new management key.
type managementKeySpec struct {
	managementKeyEdit
	Role saccount.Role `json:"role" doc:"not above your own"`
}

// managementKeyView is a management key as it is shown, without its secret.
type managementKeyView struct {
	ID        string         `json:"id" doc:"the handle to log"`
	Org       string         `json:"org,omitempty" doc:"absent: the host's, for every organization"`
	Name      string         `json:"name"`
	Role      saccount.Role  `json:"role"`
	Masked    string         `json:"masked"`
	AllowFrom []netip.Prefix `json:"allow_from,omitempty"`
	keyLife
}

// managementKeyMade is the answer that shows a token, once.
type managementKeyMade struct {
	managementKeyView
	Token  string `json:"token,omitempty" doc:"the whole token, shown this once"`
	Notice string `json:"notice,omitempty" doc:"where the token is not shown: why"`
}

func (managementKeyMade) withoutToken(v any) any {
	return managementKeyMade{managementKeyView: v.(managementKeyView), Notice: tokenGone}
}

func viewManagementKey(k saccount.ManagementKey) managementKeyView {
	v := managementKeyView{
		ID: k.ID, Org: k.Org, Name: k.Name, Role: k.Role, Masked: k.Masked, AllowFrom: k.AllowFrom,
		keyLife: keyLife{
			Expires: k.Expires, Status: k.Status, Created: k.Created, CreatedBy: k.CreatedBy, Rotated: k.Rotated,
			OverlapEnds: k.OverlapEnds, Updated: k.Updated, Deleted: k.Deleted, LastUsed: useOf(k.LastUsed), Revision: k.Revision,
		},
	}
	if k.Org == saccount.HostPartition {
		v.Org = ""
	}
	return v
}

func madeManagementKey(token apikey.Token, k saccount.ManagementKey) managementKeyMade {
	return managementKeyMade{managementKeyView: viewManagementKey(k), Token: token.Reveal()}
}

var listManagementKeys = listing(func(c *call, f saccount.Filter) (saccount.Page[saccount.ManagementKey], error) {
	return c.svc.ListManagementKeys(c.ctx, c.partition(), f)
}, viewManagementKey)

var createManagementKey = of(func(c *call, in *managementKeySpec) (*reply, error) {
	if in.Role > c.caller.Role {
		return nil, roleNeeded(in.Role)
	}
	spec := saccount.ManagementKeySpec{Name: in.Name, Role: in.Role, AllowFrom: in.AllowFrom}
	if in.Expires != nil {
		spec.Expires = *in.Expires
	}
	token, k, err := c.svc.CreateManagementKey(c.guarded, c.caller.Actor, c.partition(), spec)
	return replied(madeManagementKey(token, k), k.Revision, "management-keys/"+k.ID, err)
})

func rotateManagementKey(c *call) (*reply, error) {
	overlap, err := c.rotation(managementKeys)
	if err != nil {
		return nil, err
	}
	token, k, err := c.svc.RotateManagementKey(c.guarded, c.caller.Actor, c.partition(), c.id(), overlap)
	return replied(madeManagementKey(token, k), k.Revision, "", err)
}

var managementKeys = &resource{
	kind: saccount.KindManagementKey, word: "management key",
	get: func(c *call, org, id string, with ...saccount.Include) (record, error) {
		k, err := c.svc.GetManagementKey(c.ctx, org, id, with...)
		return record{view: viewManagementKey(k), revision: k.Revision, role: k.Role}, err
	},
	update: func(c *call, ctx context.Context, org, id string, u saccount.Update) (record, error) {
		k, err := c.svc.UpdateManagementKey(ctx, c.caller.Actor, org, id, u)
		return record{view: viewManagementKey(k), revision: k.Revision, role: k.Role}, err
	},
	edit: func(_ *call, rec record, body []byte) (u saccount.Update, err error) {
		v := rec.view.(managementKeyView)
		was := managementKeyEdit{Name: v.Name, AllowFrom: v.AllowFrom, Expires: instant(v.Expires)}
		now, err := patch(body, was)
		if err != nil {
			return u, err
		}
		u.Name = differs(was.Name, now.Name)
		if !reflect.DeepEqual(was.AllowFrom, now.AllowFrom) {
			u.AllowFrom = &now.AllowFrom
		}
		u.Expires = editExpiry(was.Expires, now.Expires)
		return u, nil
	},
	disable: (*saccount.Service).DisableManagementKey,
	enable:  (*saccount.Service).EnableManagementKey,
	remove:  (*saccount.Service).DeleteManagementKey,
}
