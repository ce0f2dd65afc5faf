package dashboard

import (
	"context"
	"net/url"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// memberEdit is what can be set of a member.
type memberEdit struct {
	Name       string               `json:"name,omitempty" doc:"up to 100 characters"`
	Labels     map[string]string    `json:"labels,omitempty"`
	Limits     map[string]limitSpec `json:"limits,omitempty"`
	Thresholds *[]quota.Threshold   `json:"thresholds,omitempty" doc:"of limits on it and below it that name none; absent: inherited; empty: nothing alerts"`
}

// memberSpec describes a new member.
type memberSpec struct {
	ID string `json:"id" doc:"the host's id of the person" schema:"minLength=1"`
	memberEdit
}

// memberView is a member as it is shown.
type memberView struct {
	ID         string               `json:"id"`
	Org        string               `json:"org"`
	Name       string               `json:"name,omitempty"`
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

func viewMember(m saccount.Member) memberView {
	return memberView{
		ID: m.ID, Org: m.Org, Name: m.Name, Labels: m.Labels, Limits: limitsOf(m.Limits), Thresholds: thresholdsOf(m.Thresholds), Status: statusOf(m.Disabled, m.Deleted),
		Created: m.Created, CreatedBy: m.CreatedBy, Updated: m.Updated, Deleted: m.Deleted, Revision: m.Revision,
	}
}

var listMembers = listing(func(c *call, f saccount.Filter) (saccount.Page[saccount.Member], error) {
	return c.svc.ListMembers(c.ctx, c.org(), f)
}, viewMember)

var createMember = of(func(c *call, in *memberSpec) (*reply, error) {
	m, err := c.svc.CreateMember(c.guarded, c.caller.Actor, c.org(), saccount.MemberSpec{ID: in.ID, Name: in.Name, Labels: in.Labels, Limits: limitsFrom(in.Limits), Thresholds: thresholdsFrom(in.Thresholds)})
	return replied(viewMember(m), m.Revision, "members/"+url.PathEscape(m.ID), err)
})

var members = &resource{
	kind: saccount.KindMember, word: "member",
	get: func(c *call, org, id string, with ...saccount.Include) (record, error) {
		m, err := c.svc.GetMember(c.ctx, org, id, with...)
		return record{view: viewMember(m), revision: m.Revision, limits: m.Limits}, err
	},
	update: func(c *call, ctx context.Context, org, id string, u saccount.Update) (record, error) {
		m, err := c.svc.UpdateMember(ctx, c.caller.Actor, org, id, u)
		return record{view: viewMember(m), revision: m.Revision, limits: m.Limits}, err
	},
	edit: func(_ *call, rec record, body []byte) (u saccount.Update, err error) {
		v := rec.view.(memberView)
		was := memberEdit{Name: v.Name, Labels: v.Labels, Limits: specsOf(rec.limits), Thresholds: v.Thresholds}
		now, err := patch(body, was)
		if err != nil {
			return u, err
		}
		u.Name = differs(was.Name, now.Name)
		u.Labels, u.Limits = editLabels(was.Labels, now.Labels), editLimits(was.Limits, now.Limits)
		u.Thresholds = editThresholds(was.Thresholds, now.Thresholds)
		return u, nil
	},
	disable: (*saccount.Service).DisableMember,
	enable:  (*saccount.Service).EnableMember,
	remove:  (*saccount.Service).DeleteMember,
}
