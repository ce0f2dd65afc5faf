package dashboard

import (
	"errors"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// keyPolicySpec is saccount.KeyPolicy: what is left out is at its default.
type keyPolicySpec struct {
	UnusedDays  int `json:"unused_days,omitempty" doc:"a key that was not used for so many days is pointed out; 0: the default, 90" schema:"minimum=0 maximum=3650"`
	DisableDays int `json:"disable_days,omitempty" doc:"and disabled after so many; 0, the default: never" schema:"minimum=0 maximum=3650"`
	GraceDays   int `json:"grace_days,omitempty" doc:"it is warned of so many days before; 0: the default, 7" schema:"minimum=0 maximum=3650"`
	ExpiryDays  int `json:"expiry_days,omitempty" doc:"a key that expires in so many days is pointed out; 0: the default, 14" schema:"minimum=0 maximum=3650"`
	MaxLifeDays int `json:"max_life_days,omitempty" doc:"the greatest lifetime of keys that are made, or whose expiry is set, from then on; 0: no bound but the service's" schema:"minimum=0 maximum=3650"`
	RotateDays  int `json:"rotate_days,omitempty" doc:"a secret older than so many days is overdue for rotation; 0: none is" schema:"minimum=0 maximum=3650"`
}

// keyPolicyView is the policy in force: the defaults are filled in.
type keyPolicyView struct {
	UnusedDays  int   `json:"unused_days"`
	DisableDays int   `json:"disable_days" doc:"0: never"`
	GraceDays   int   `json:"grace_days"`
	ExpiryDays  int   `json:"expiry_days"`
	MaxLifeDays int   `json:"max_life_days" doc:"0: no bound but the service's"`
	RotateDays  int   `json:"rotate_days" doc:"0: none"`
	Revision    int64 `json:"revision" doc:"of the organization, which it is a part of"`
}

// policyOf is an organization's policy with the defaults filled in.
func policyOf(o saccount.Org) saccount.KeyPolicy {
	if o.Keys == nil {
		return saccount.KeyPolicy{}.WithDefaults()
	}
	return o.Keys.WithDefaults()
}

func showKeyPolicy(o saccount.Org) *reply {
	p := policyOf(o)
	return &reply{body: keyPolicyView{p.UnusedDays, p.DisableDays, p.GraceDays, p.ExpiryDays, p.MaxLifeDays, p.RotateDays, o.Revision}, revision: o.Revision}
}

func readKeyPolicy(c *call) (*reply, error) {
	if _, err := c.values(); err != nil {
		return nil, err
	}
	o, err := c.svc.GetOrg(c.ctx, c.org())
	if err != nil {
		return nil, err
	}
	return showKeyPolicy(o), nil
}

// setKeyPolicy is for the role manage: the policy is about an organization's own
// keys, and no money to the host.
func setKeyPolicy(c *call) (*reply, error) {
	var in keyPolicySpec
	if err := c.read(&in); err != nil {
		return nil, err
	}
	p := saccount.KeyPolicy(in)
	o, err := c.svc.UpdateOrg(c.ctx, c.caller.Actor, c.org(), saccount.Update{Revision: c.match.revision, Keys: &p})
	if f := (*saccount.FieldError)(nil); errors.As(err, &f) {
		return nil, policyError(f)
	}
	if err != nil {
		return nil, err
	}
	return showKeyPolicy(o), nil
}

// policyError points at a field of the policy alone, which is the whole of what
// is sent.
func policyError(f *saccount.FieldError) error {
	return badFields(fieldError{Pointer: fragment(strings.TrimPrefix(f.Field, "/keys")), Detail: strings.TrimPrefix(f.Reason, "key policy: ")})
}
