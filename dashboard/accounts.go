package dashboard

import (
	"context"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// accountSpec is what can be set of a service account.
type accountSpec struct {
	Name        string               `json:"name" doc:"1 to 100 characters, unique among the organization's living accounts; say what the account is for" schema:"minLength=1"`
	Description string               `json:"description,omitempty" doc:"up to 500 characters"`
	Labels      map[string]string    `json:"labels,omitempty" doc:"up to 32"`
	Limits      map[string]limitSpec `json:"limits,omitempty" doc:"by name; the usual one is credits"`
	Thresholds  *[]quota.Threshold   `json:"thresholds,omitempty" doc:"of limits on it and below it that name none; absent: inherited; empty: nothing alerts"`
	Rate        *rate                `json:"rate,omitempty"`
}

// rate is saccount.RateLimit.
type rate struct {
	PerSecond float64 `json:"per_second" doc:"requests a second, above 0, in each process by itself" schema:"minimum=0"`
	Burst     int     `json:"burst,omitempty" doc:"requests at once; absent: those of a second" schema:"minimum=0"`
}

// accountView is a service account as it is shown.
type accountView struct {
	ID          string               `json:"id"`
	Org         string               `json:"org"`
	Name        string               `json:"name"`
	Description string               `json:"description,omitempty"`
	Labels      map[string]string    `json:"labels,omitempty"`
	Limits      map[string]limitView `json:"limits,omitempty"`
	Thresholds  *[]quota.Threshold   `json:"thresholds,omitempty" doc:"its own; absent: inherited"`
	Rate        *rate                `json:"rate,omitempty"`
	Status      saccount.Status      `json:"status"`
	Created     time.Time            `json:"created"`
	CreatedBy   saccount.Actor       `json:"created_by,omitempty"`
	Updated     time.Time            `json:"updated,omitzero"`
	Deleted     time.Time            `json:"deleted,omitzero"`
	Revision    int64                `json:"revision"`
	Advice      []string             `json:"advice,omitempty" doc:"what a person may want to mend"`
}

func rateOf(r *saccount.RateLimit) *rate {
	if r == nil {
		return nil
	}
	return &rate{r.PerSecond, r.Burst}
}

func (r *rate) limit() *saccount.RateLimit {
	if r == nil {
		return nil
	}
	return &saccount.RateLimit{PerSecond: r.PerSecond, Burst: r.Burst}
}

// statusOf is the status of a record that does not expire.
func statusOf(disabled bool, deleted time.Time) saccount.Status {
	switch {
	case !deleted.IsZero():
		return saccount.StatusDeleted
	case disabled:
		return saccount.StatusDisabled
	}
	return saccount.StatusActive
}

func viewAccount(a saccount.Account) accountView {
	return accountView{
		ID: a.ID, Org: a.Org, Name: a.Name, Description: a.Description, Labels: a.Labels, Limits: limitsOf(a.Limits), Thresholds: thresholdsOf(a.Thresholds), Rate: rateOf(a.Rate),
		Status: statusOf(a.Disabled, a.Deleted), Created: a.Created, CreatedBy: a.CreatedBy, Updated: a.Updated, Deleted: a.Deleted,
		Revision: a.Revision, Advice: a.Advice,
	}
}

func (s *accountSpec) spec() saccount.AccountSpec {
	return saccount.AccountSpec{Name: s.Name, Description: s.Description, Labels: s.Labels, Limits: limitsFrom(s.Limits), Thresholds: thresholdsFrom(s.Thresholds), Rate: s.Rate.limit()}
}

var listAccounts = listing(func(c *call, f saccount.Filter) (saccount.Page[saccount.Account], error) {
	return c.svc.ListAccounts(c.ctx, c.org(), f)
}, viewAccount)

var createAccount = of(func(c *call, in *accountSpec) (*reply, error) {
	a, err := c.svc.CreateAccount(c.guarded, c.caller.Actor, c.org(), in.spec())
	return replied(viewAccount(a), a.Revision, "accounts/"+a.ID, err)
})

var accounts = &resource{
	kind: saccount.KindAccount, word: "service account",
	get: func(c *call, org, id string, with ...saccount.Include) (record, error) {
		a, err := c.svc.GetAccount(c.ctx, org, id, with...)
		return record{view: viewAccount(a), revision: a.Revision, limits: a.Limits}, err
	},
	update: func(c *call, ctx context.Context, org, id string, u saccount.Update) (record, error) {
		a, err := c.svc.UpdateAccount(ctx, c.caller.Actor, org, id, u)
		return record{view: viewAccount(a), revision: a.Revision, limits: a.Limits}, err
	},
	edit: func(_ *call, rec record, body []byte) (u saccount.Update, err error) {
		v := rec.view.(accountView)
		was := accountSpec{Name: v.Name, Description: v.Description, Labels: v.Labels, Limits: specsOf(rec.limits), Thresholds: v.Thresholds, Rate: v.Rate}
		now, err := patch(body, was)
		if err != nil {
			return u, err
		}
		u.Name, u.Description = differs(was.Name, now.Name), differs(was.Description, now.Description)
		u.Labels, u.Limits, u.Rate = editLabels(was.Labels, now.Labels), editLimits(was.Limits, now.Limits), editRate(was.Rate, now.Rate)
		u.Thresholds = editThresholds(was.Thresholds, now.Thresholds)
		return u, nil
	},
	disable: (*saccount.Service).DisableAccount,
	enable:  (*saccount.Service).EnableAccount,
	remove:  (*saccount.Service).DeleteAccount,
}
