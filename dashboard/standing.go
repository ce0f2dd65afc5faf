package dashboard

import (
	"context"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// limitStatus is the state of a limit in its window.
type limitStatus struct {
	Subject   quota.Subject `json:"subject"`
	Limit     string        `json:"limit"`
	Max       quota.Credits `json:"max" doc:"in force: a raise, top-ups and a shortened first window included"`
	Extra     quota.Credits `json:"extra" doc:"of max: raises and top-ups"`
	Used      quota.Credits `json:"used"`
	Held      quota.Credits `json:"held"`
	Overage   quota.Credits `json:"overage"`
	Remaining quota.Credits `json:"remaining"`
	Start     time.Time     `json:"start,omitzero" doc:"of the window; absent where it never resets"`
	ResetsAt  time.Time     `json:"resets_at,omitzero" doc:"absent: never"`
	Soft      bool          `json:"soft,omitempty"`
	Refused   bool          `json:"refused,omitempty" doc:"this limit stands in the way"`
}

// limitStatuses are those of a record.
type limitStatuses struct {
	Limits []limitStatus `json:"limits"`
}

func statusesOf(ls []quota.LimitStatus) []limitStatus {
	out := make([]limitStatus, 0, len(ls))
	for i := range ls {
		l := &ls[i]
		out = append(out, limitStatus{
			Subject: l.Subject, Limit: l.Limit, Max: l.Max, Extra: l.Extra, Used: l.Used, Held: l.Held, Overage: l.Overage,
			Remaining: l.Remaining, Start: l.Start, ResetsAt: l.ResetAt, Soft: l.Soft, Refused: l.Refused,
		})
	}
	return out
}

func (k *resource) status(c *call) (*reply, error) {
	org, id := k.at(c)
	st, err := c.svc.StatusOf(c.ctx, org, k.kind, id)
	if err != nil {
		return nil, err
	}
	return &reply{body: limitStatuses{statusesOf(st)}}, nil
}

// setLimit makes a limit, or sets the whole of one anew.
func (k *resource) setLimit(c *call) (*reply, error) {
	var in limitSpec
	if err := c.read(&in); err != nil {
		return nil, err
	}
	return k.changeLimit(c, in.spec())
}

func (k *resource) removeLimit(c *call) (*reply, error) {
	if err := c.empty(); err != nil {
		return nil, err
	}
	rec, err := k.load(c)
	if err != nil {
		return nil, err
	}
	name := c.params["limit"]
	for i := range rec.limits {
		if rec.limits[i].Name == name {
			return k.changeLimit(c, nil)
		}
	}
	return nil, notFound("limit")
}

func (k *resource) changeLimit(c *call, spec *saccount.LimitSpec) (*reply, error) {
	org, id := k.at(c)
	name := c.params["limit"]
	rec, err := k.update(c, c.ctx, org, id, saccount.Update{Revision: c.match.revision, Limits: saccount.Limits{name: spec}})
	if err != nil {
		return nil, err
	}
	return &reply{body: rec.view, revision: rec.revision}, nil
}

// topUpSpec adds to the current window of a limit, once.
type topUpSpec struct {
	Amount quota.Credits `json:"amount" doc:"above 0"`
	ID     string        `json:"id,omitempty" doc:"makes a retry within the window safe, whoever sends it; up to 255 bytes"`
}

func (k *resource) topUp(c *call) (*reply, error) {
	var in topUpSpec
	if err := c.read(&in); err != nil {
		return nil, err
	}
	return k.act(func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error {
		return s.TopUp(ctx, by, org, k.kind, id, saccount.TopUp{Limit: c.params["limit"], Amount: in.Amount, ID: in.ID})
	})(c)
}

// raiseSpec lets a limit stand higher until an instant.
type raiseSpec struct {
	Max   quota.Credits `json:"max" doc:"not below the limit's own"`
	Until time.Time     `json:"until"`
}

func (k *resource) raise(c *call) (*reply, error) {
	var in raiseSpec
	if err := c.read(&in); err != nil {
		return nil, err
	}
	rec, err := k.load(c)
	if err != nil {
		return nil, err
	}
	name := c.params["limit"]
	for i := range rec.limits {
		if l := &rec.limits[i]; l.Name == name && in.Max < l.Max {
			return nil, badFields(fieldError{Pointer: "#/max", Detail: "it is below the limit's own, " + l.Max.String() + "; set the limit instead, or end the raise"})
		}
	}
	return k.act(func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error {
		return s.RaiseLimit(ctx, by, org, k.kind, id, name, in.Max, in.Until)
	})(c)
}

func (k *resource) endRaise(c *call) (*reply, error) {
	return k.act(func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error {
		return s.RaiseLimit(ctx, by, org, k.kind, id, c.params["limit"], 0, time.Time{})
	})(c)
}
