package dashboard

import (
	"context"
	"net/netip"
	"reflect"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// keySpec is what can be set of a key.
type keySpec struct {
	Name        string               `json:"name" doc:"1 to 100 characters, unique among the account's living keys" schema:"minLength=1"`
	Environment string               `json:"environment,omitempty" doc:"dev, staging, production, ...: up to 32 of a-z, 0-9, - and _"`
	Labels      map[string]string    `json:"labels,omitempty"`
	Scopes      []string             `json:"scopes,omitempty" doc:"up to 64"`
	AllowFrom   []netip.Prefix       `json:"allow_from,omitempty" doc:"ranges of addresses; absent: from everywhere"`
	Limits      map[string]limitSpec `json:"limits,omitempty"`
	Thresholds  *[]quota.Threshold   `json:"thresholds,omitempty" doc:"of limits on it and below it that name none; absent: inherited; empty: nothing alerts"`
	Rate        *rate                `json:"rate,omitempty"`
	Expires     *time.Time           `json:"expires,omitempty" doc:"absent: never, or what the service allows at most"`
}

// keyView is a key as it is shown, without its secret.
type keyView struct {
	ID          string               `json:"id" doc:"the handle to log"`
	Account     string               `json:"account"`
	Org         string               `json:"org"`
	Name        string               `json:"name"`
	Environment string               `json:"environment,omitempty"`
	Masked      string               `json:"masked" doc:"the token's prefix and id"`
	Labels      map[string]string    `json:"labels,omitempty"`
	Scopes      []string             `json:"scopes,omitempty"`
	AllowFrom   []netip.Prefix       `json:"allow_from,omitempty"`
	Limits      map[string]limitView `json:"limits,omitempty"`
	Thresholds  *[]quota.Threshold   `json:"thresholds,omitempty" doc:"its own; absent: inherited"`
	Rate        *rate                `json:"rate,omitempty"`
	keyLife
	Advice []string `json:"advice,omitempty"`
}

// keyLife is what both kinds of keys have.
type keyLife struct {
	Expires     time.Time       `json:"expires,omitzero"`
	Status      saccount.Status `json:"status" doc:"of the key itself"`
	Created     time.Time       `json:"created"`
	CreatedBy   saccount.Actor  `json:"created_by,omitempty"`
	Rotated     time.Time       `json:"rotated,omitzero" doc:"when its newest secret was made"`
	OverlapEnds time.Time       `json:"overlap_ends,omitzero" doc:"until when the secret before it lives too"`
	Updated     time.Time       `json:"updated,omitzero"`
	Deleted     time.Time       `json:"deleted,omitzero"`
	LastUsed    *use            `json:"last_used,omitempty" doc:"absent: never"`
	Revision    int64           `json:"revision"`
}

type use struct {
	At   time.Time `json:"at"`
	Addr string    `json:"addr,omitempty"`
}

func useOf(u saccount.Use) *use {
	if u.At.IsZero() {
		return nil
	}
	return &use{u.At, u.Addr}
}

// keyMade is the answer that shows a token, once.
type keyMade struct {
	keyView
	Token  string `json:"token,omitempty" doc:"the whole token, shown this once; keep it in the environment or a secret manager"`
	Notice string `json:"notice,omitempty" doc:"where the token is not shown: why"`
}

const tokenGone = "The token was shown by the first answer to this request, and nobody keeps it; rotate the key to get a new one."

func (keyMade) withoutToken(v any) any { return keyMade{keyView: v.(keyView), Notice: tokenGone} }

// rotation asks for a new secret.
type rotation struct {
	Overlap int64 `json:"overlap_seconds,omitempty" doc:"how long the old secret lives on; 0, the default, ends it at once" schema:"minimum=0"`
}

// longestOverlap keeps the seconds within time.Duration.
const longestOverlap = 100 * 365 * 24 * 60 * 60

func (r rotation) overlap() (time.Duration, error) {
	if r.Overlap < 0 || r.Overlap > longestOverlap {
		return 0, badFields(fieldError{Pointer: "#/overlap_seconds", Detail: "give 0 to 3153600000 seconds"})
	}
	return time.Duration(r.Overlap) * time.Second, nil
}

func viewKey(k saccount.Key) keyView {
	return keyView{
		ID: k.ID, Account: k.Account, Org: k.Org, Name: k.Name, Environment: k.Environment, Masked: k.Masked, Labels: k.Labels,
		Scopes: k.Scopes, AllowFrom: k.AllowFrom, Limits: limitsOf(k.Limits), Thresholds: thresholdsOf(k.Thresholds), Rate: rateOf(k.Rate), Advice: k.Advice,
		keyLife: keyLife{
			Expires: k.Expires, Status: k.Status, Created: k.Created, CreatedBy: k.CreatedBy, Rotated: k.Rotated,
			OverlapEnds: k.OverlapEnds, Updated: k.Updated, Deleted: k.Deleted, LastUsed: useOf(k.LastUsed), Revision: k.Revision,
		},
	}
}

func made(token apikey.Token, k saccount.Key) keyMade {
	return keyMade{keyView: viewKey(k), Token: token.Reveal()}
}

// listKeys lists the keys of an account, or of the whole organization.
var listKeys = listing(func(c *call, f saccount.Filter) (saccount.Page[saccount.Key], error) {
	return c.svc.ListKeys(c.ctx, c.org(), c.id(), f)
}, viewKey)

var createKey = of(func(c *call, in *keySpec) (*reply, error) {
	spec := saccount.KeySpec{
		Name: in.Name, Environment: in.Environment, Labels: in.Labels, Scopes: in.Scopes, AllowFrom: in.AllowFrom,
		Limits: limitsFrom(in.Limits), Thresholds: thresholdsFrom(in.Thresholds), Rate: in.Rate.limit(),
	}
	if in.Expires != nil {
		spec.Expires = *in.Expires
	}
	token, k, err := c.svc.CreateKey(c.guarded, c.caller.Actor, c.org(), c.id(), spec)
	return replied(made(token, k), k.Revision, "../../keys/"+k.ID, err)
})

func rotateKey(c *call) (*reply, error) {
	overlap, err := c.rotation(keys)
	if err != nil {
		return nil, err
	}
	token, k, err := c.svc.RotateKey(c.guarded, c.caller.Actor, c.org(), c.id(), overlap)
	return replied(made(token, k), k.Revision, "", err)
}

// rotation reads the body of a rotation, which may be left out.
func (c *call) rotation(k *resource) (time.Duration, error) {
	var in rotation
	if err := c.readMay(&in); err != nil {
		return 0, err
	}
	if _, err := k.load(c); err != nil {
		return 0, err
	}
	return in.overlap()
}

func cancelRotation(c *call) (*reply, error) {
	return keys.act(func(s *saccount.Service, ctx context.Context, by saccount.Actor, org, id string) error {
		_, err := s.CancelRotation(ctx, by, org, id)
		return err
	})(c)
}

var keys = &resource{
	kind: saccount.KindKey, word: "key",
	get: func(c *call, org, id string, with ...saccount.Include) (record, error) {
		k, err := c.svc.GetKey(c.ctx, org, id, with...)
		return record{view: viewKey(k), revision: k.Revision, limits: k.Limits}, err
	},
	update: func(c *call, ctx context.Context, org, id string, u saccount.Update) (record, error) {
		k, err := c.svc.UpdateKey(ctx, c.caller.Actor, org, id, u)
		return record{view: viewKey(k), revision: k.Revision, limits: k.Limits}, err
	},
	edit: func(_ *call, rec record, body []byte) (u saccount.Update, err error) {
		v := rec.view.(keyView)
		was := keySpec{
			Name: v.Name, Environment: v.Environment, Labels: v.Labels, Scopes: v.Scopes, AllowFrom: v.AllowFrom,
			Limits: specsOf(rec.limits), Thresholds: v.Thresholds, Rate: v.Rate, Expires: instant(v.Expires),
		}
		now, err := patch(body, was)
		if err != nil {
			return u, err
		}
		u.Name, u.Environment = differs(was.Name, now.Name), differs(was.Environment, now.Environment)
		u.Labels, u.Limits, u.Rate = editLabels(was.Labels, now.Labels), editLimits(was.Limits, now.Limits), editRate(was.Rate, now.Rate)
		u.Thresholds = editThresholds(was.Thresholds, now.Thresholds)
		if !reflect.DeepEqual(was.Scopes, now.Scopes) {
			u.Scopes = &now.Scopes
		}
		if !reflect.DeepEqual(was.AllowFrom, now.AllowFrom) {
			u.AllowFrom = &now.AllowFrom
		}
		u.Expires = editExpiry(was.Expires, now.Expires)
		return u, nil
	},
	disable: (*saccount.Service).DisableKey,
	enable:  (*saccount.Service).EnableKey,
	remove:  (*saccount.Service).DeleteKey,
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func editExpiry(was, now *time.Time) *time.Time {
	switch {
	case was == nil && now == nil, was != nil && now != nil && was.Equal(*now):
		return nil
	case now == nil:
		return new(time.Time)
	}
	return now
}
