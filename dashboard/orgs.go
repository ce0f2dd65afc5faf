package dashboard

import (
	"context"
	"net/url"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// orgEdit is what can be set of an organization. Its zone and limits are for
// the role admin.
type orgEdit struct {
	Name       string               `json:"name,omitempty" doc:"1 to 100 characters; the id where it is not given"`
	Zone       string               `json:"zone,omitempty" doc:"IANA name, the default of limits that are set from then on; absent: UTC"`
	Labels     map[string]string    `json:"labels,omitempty"`
	Limits     map[string]limitSpec `json:"limits,omitempty"`
	Thresholds *[]quota.Threshold   `json:"thresholds,omitempty" doc:"of limits on it and below it that name none; absent: inherited; empty: nothing alerts"`
}

// orgSpec describes a new organization.
type orgSpec struct {
	ID string `json:"id,omitempty" doc:"1 to 128 bytes, never used before; absent: one is made"`
	orgEdit
}

// orgView is an organization as it is shown.
type orgView struct {
	ID         string               `json:"id"`
	Name       string               `json:"name"`
	Zone       string               `json:"zone,omitempty"`
	Labels     map[string]string    `json:"labels,omitempty"`
	Limits     map[string]limitView `json:"limits,omitempty"`
	Thresholds *[]quota.Threshold   `json:"thresholds,omitempty" doc:"its own; absent: inherited"`
	Status     saccount.Status      `json:"status"`
	Created    time.Time            `json:"created"`
	CreatedBy  saccount.Actor       `json:"created_by,omitempty"`
	Updated    time.Time            `json:"updated,omitzero"`
	Deleted    time.Time            `json:"deleted,omitzero"`
	Revision   int64                `json:"revision"`
}

func viewOrg(o saccount.Org) orgView {
	return orgView{
		ID: o.ID, Name: o.Name, Zone: o.Zone, Labels: o.Labels, Limits: limitsOf(o.Limits), Thresholds: thresholdsOf(o.Thresholds), Status: statusOf(o.Disabled, o.Deleted),
		Created: o.Created, CreatedBy: o.CreatedBy, Updated: o.Updated, Deleted: o.Deleted, Revision: o.Revision,
	}
}

// listOrgs lists what the caller may see: all, or the one organization.
func listOrgs(c *call) (*reply, error) {
	f, err := c.filter()
	if err != nil {
		return nil, err
	}
	if !c.caller.Host {
		o, err := c.svc.GetOrg(c.ctx, c.caller.Org)
		if err != nil {
			return nil, err
		}
		return &reply{body: page[orgView]{Items: []orgView{viewOrg(o)}}}, nil
	}
	p, err := c.svc.ListOrgs(c.ctx, f)
	if err != nil {
		return nil, err
	}
	return &reply{body: pageOf(p, f, viewOrg)}, nil
}

var createOrg = of(func(c *call, in *orgSpec) (*reply, error) {
	o, err := c.svc.CreateOrg(c.guarded, c.caller.Actor, saccount.OrgSpec{ID: in.ID, Name: in.Name, Zone: in.Zone, Labels: in.Labels, Limits: limitsFrom(in.Limits), Thresholds: thresholdsFrom(in.Thresholds)})
	return replied(viewOrg(o), o.Revision, "orgs/"+url.PathEscape(o.ID), err)
})

var orgs = &resource{
	kind: saccount.KindOrg, word: "organization",
	get: func(c *call, _, id string, with ...saccount.Include) (record, error) {
		o, err := c.svc.GetOrg(c.ctx, id, with...)
		return record{view: viewOrg(o), revision: o.Revision, limits: o.Limits}, err
	},
	update: func(c *call, ctx context.Context, _, id string, u saccount.Update) (record, error) {
		o, err := c.svc.UpdateOrg(ctx, c.caller.Actor, id, u)
		return record{view: viewOrg(o), revision: o.Revision, limits: o.Limits}, err
	},
	edit: func(c *call, rec record, body []byte) (u saccount.Update, err error) {
		v := rec.view.(orgView)
		was := orgEdit{Name: v.Name, Zone: v.Zone, Labels: v.Labels, Limits: specsOf(rec.limits), Thresholds: v.Thresholds}
		now, err := patch(body, was)
		if err != nil {
			return u, err
		}
		u.Name, u.Zone = differs(was.Name, now.Name), differs(was.Zone, now.Zone)
		u.Labels, u.Limits = editLabels(was.Labels, now.Labels), editLimits(was.Limits, now.Limits)
		u.Thresholds = editThresholds(was.Thresholds, now.Thresholds)
		if (u.Zone != nil || len(u.Limits) > 0) && c.caller.Role < saccount.RoleAdmin {
			return u, roleNeeded(saccount.RoleAdmin)
		}
		return u, nil
	},
	disable: func(s *saccount.Service, ctx context.Context, by saccount.Actor, _, id string) error {
		return s.DisableOrg(ctx, by, id)
	},
	enable: func(s *saccount.Service, ctx context.Context, by saccount.Actor, _, id string) error {
		return s.EnableOrg(ctx, by, id)
	},
	remove: func(s *saccount.Service, ctx context.Context, by saccount.Actor, _, id string) error {
		return s.DeleteOrg(ctx, by, id)
	},
}
