package saccount

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/alert"
)

// KeyPolicy is what an organization asks of its keys, in days of 24 hours. It
// is part of the organization's record, and set by UpdateOrg. The zero
// KeyPolicy has the defaults and disables nothing.
type KeyPolicy struct {
	// UnusedDays is after how long without a use a key is pointed out. 0 is
	// DefaultUnusedDays.
	UnusedDays int `json:"unused_days,omitempty"`
	// DisableDays is after how long without a use EnforceKeyPolicy disables a
	// key. 0: never.
	DisableDays int `json:"disable_days,omitempty"`
	// GraceDays is how long before that it is warned of; no key is disabled
	// sooner after its warning. 0 is DefaultGraceDays. Fewer than DisableDays.
	GraceDays int `json:"grace_days,omitempty"`
	// ExpiryDays is how long before its expiry a key is pointed out. 0 is
	// DefaultExpiryDays.
	ExpiryDays int `json:"expiry_days,omitempty"`
	// MaxLifeDays is the greatest lifetime of a key that is made, or whose
	// expiry is set, from then on; one without an expiry gets this one.
	// Config.MaxKeyLife holds too. 0: no bound.
	MaxLifeDays int `json:"max_life_days,omitempty"`
	// RotateDays is the age of a secret after which the key is overdue for
	// rotation. 0: none is.
	RotateDays int `json:"rotate_days,omitempty"`
}

// Defaults and the bound of a KeyPolicy's fields, in days.
const (
	DefaultUnusedDays = 90
	DefaultGraceDays  = 7
	DefaultExpiryDays = 14
	MaxPolicyDays     = 3650
)

const policyDay = 24 * time.Hour

// WithDefaults is the policy with its defaults filled in, as it is in force.
func (p KeyPolicy) WithDefaults() KeyPolicy {
	if p.UnusedDays == 0 {
		p.UnusedDays = DefaultUnusedDays
	}
	if p.GraceDays == 0 {
		p.GraceDays = DefaultGraceDays
	}
	if p.ExpiryDays == 0 {
		p.ExpiryDays = DefaultExpiryDays
	}
	return p
}

func (p *KeyPolicy) check() error {
	for _, f := range []struct {
		field string
		days  int
	}{
		{"unused_days", p.UnusedDays}, {"disable_days", p.DisableDays}, {"grace_days", p.GraceDays}, {"expiry_days", p.ExpiryDays},
		{"max_life_days", p.MaxLifeDays}, {"rotate_days", p.RotateDays},
	} {
		if f.days < 0 || f.days > MaxPolicyDays {
			return fieldf("/keys/"+f.field, "key policy: %s of %d; give 0 to %d", f.field, f.days, MaxPolicyDays)
		}
	}
	if d := p.WithDefaults(); p.DisableDays > 0 && d.GraceDays >= p.DisableDays {
		return fieldf("/keys/grace_days", "key policy: a grace of %d days before %d days without a use; give fewer", d.GraceDays, p.DisableDays)
	}
	return nil
}

// lifetime is the greatest lifetime of a key under the policy and the Config; 0: no bound.
func (s *Service) lifetime(p *KeyPolicy) time.Duration {
	longest := s.cfg.MaxKeyLife
	if p != nil && p.MaxLifeDays > 0 {
		if d := time.Duration(p.MaxLifeDays) * policyDay; longest == 0 || d < longest {
			longest = d
		}
	}
	return longest
}

func (n *node) policy() KeyPolicy {
	if n.Keys == nil {
		return KeyPolicy{}.WithDefaults()
	}
	return n.Keys.WithDefaults()
}

// lastSign is when a key last gave a sign of life: it was used, made, or given
// a new secret.
func (n *node) lastSign() time.Time {
	at := n.Created
	if n.Use.At.After(at) {
		at = n.Use.At
	}
	if len(n.Secrets) > 0 && n.Secrets[len(n.Secrets)-1].Created.After(at) {
		at = n.Secrets[len(n.Secrets)-1].Created
	}
	return at
}

// Enforced is something that EnforceKeyPolicy did to a key.
type Enforced struct {
	Org      string
	Key      Key       // as it is now
	Disabled bool      // false: it was warned of
	Unused   time.Time // since when it was not used
	When     time.Time // when it was, or will at the earliest be, disabled
}

// EnforceKeyPolicy warns of and disables keys of an organization that were not
// used for as long as its KeyPolicy says, at instant now, and tells each to fn;
// fn may be nil. A key is disabled where a warning of it was written at least
// GraceDays ago and it was not used since; a use, a rotation, or enabling it,
// begins anew. Both are audited by ActorPolicy, as "warn_unused" and "disable",
// and alerted (alert.KindKeyUnused, alert.KindKeyDisabled), in the same step.
// Keys of an organization or account that is disabled are left alone: they
// cannot be used. Watch does all this whenever it looks for alerts; call it
// where Watch does not run, in one process or in all: what was done is not done
// again. It reads the keys page by page, and none where the policy disables
// nothing. Errors are fn's and the store's; what was done until then stays.
func (s *Service) EnforceKeyPolicy(ctx context.Context, org string, now time.Time, fn func(Enforced) error) error {
	if err := s.begin("enforce key policy"); err != nil {
		return err
	}
	l, err := s.living(ctx, org, KindOrg, org)
	if err != nil {
		return fmt.Errorf("saccount: enforce key policy: %w", err)
	}
	o, err := readNode(l.Record)
	if err != nil {
		return err
	}
	if err := s.enforceAll(ctx, o, Micro(now), fn); err != nil {
		return fmt.Errorf("saccount: enforce key policy: %w", err)
	}
	return nil
}

func (s *Service) enforceAll(ctx context.Context, org *node, now time.Time, fn func(Enforced) error) error {
	p := org.policy()
	if p.DisableDays == 0 {
		return nil
	}
	q := ListQuery{Kind: KindKey, Org: org.ID, Limit: MaxPage, Statuses: []Status{StatusActive}, Now: now}
	for {
		recs, more, err := s.store.List(ctx, q)
		if err != nil {
			return err
		}
		for i := range recs {
			if err := s.enforce(ctx, p, recs[i], now, fn); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		q.After = q.Cursor(&recs[len(recs)-1])
	}
}

// speaks reports whether a key has been unused for so long that the policy warns
// of it, or has.
func (p KeyPolicy) speaks(n *node, now time.Time) bool {
	return p.DisableDays > 0 && now.Sub(n.lastSign()) >= time.Duration(p.DisableDays-p.GraceDays)*policyDay
}

// due says what the policy asks of a key: nothing, to warn, or to disable.
func (p KeyPolicy) due(n *node, now time.Time) (warn, disable bool) {
	if n.Disabled || n.Record.Status(now) != StatusActive || !p.speaks(n, now) {
		return false, false
	}
	sign := n.lastSign()
	after, grace := time.Duration(p.DisableDays)*policyDay, time.Duration(p.GraceDays)*policyDay
	switch warned := n.Warned.After(sign); {
	case !warned:
		return true, false
	default:
		return false, now.Sub(sign) >= after && now.Sub(n.Warned) >= grace
	}
}

func (s *Service) enforce(ctx context.Context, p KeyPolicy, r Record, now time.Time, fn func(Enforced) error) error {
	n, err := readNode(r)
	if err != nil {
		return err
	}
	warn, disable := p.due(n, now)
	if !warn && !disable {
		return nil
	}
	l, err := s.living(ctx, r.Org, KindKey, r.ID)
	if errors.Is(err, ErrNotFound) || err == nil && (l.Org.Disabled || l.Account.Disabled) {
		return nil // it cannot be used
	}
	if err != nil {
		return err
	}
	if err := s.used.flush(ctx); err != nil { // a use that is still in memory counts
		return err
	}
	action := "warn_unused"
	if disable {
		action = "disable"
	}
	ctx = because(ctx, fmt.Sprintf("not used since %s; the policy disables keys after %d days", n.lastSign().Format(time.DateOnly), p.DisableDays))
	did := false
	var e Enforced
	n, err = s.change(ctx, ActorPolicy, r.Org, KindKey, r.ID, 0, action, func(n *node, b *Batch) error {
		did = false
		w, d := p.due(n, now) // as it is now
		if w != warn || d != disable {
			return errUnchanged
		}
		did = true
		e = Enforced{Org: r.Org, Disabled: d, Unused: n.lastSign(), When: now}
		if n.Warned = now; d {
			n.Disabled, n.Warned = true, time.Time{}
		} else {
			e.When = e.Unused.Add(time.Duration(p.DisableDays) * policyDay)
			if least := now.Add(time.Duration(p.GraceDays) * policyDay); e.When.Before(least) {
				e.When = least
			}
		}
		post, err := e.alert(n, now)
		b.Alerts = append(b.Alerts, post)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil // it was deleted meanwhile
	}
	if err != nil || !did || fn == nil {
		return err
	}
	e.Key = n.key(now)
	return fn(e)
}

// alert is what goes into the outbox with it.
func (e *Enforced) alert(n *node, now time.Time) (alert.Post, error) {
	kind := alert.KindKeyUnused
	figures := map[string]string{
		alert.FigureName: n.Name, alert.FigureDays: strconv.Itoa(int(now.Sub(e.Unused) / policyDay)), "account": n.Parent,
		alert.FigureTime: e.Unused.Format(time.RFC3339),
	}
	if e.Disabled {
		kind, figures[alert.FigureReason] = alert.KindKeyDisabled, "it was not used since "+e.Unused.Format(time.DateOnly)
	} else {
		figures[alert.FigureDisables] = e.When.Format(time.RFC3339)
	}
	return alert.New(kind, n.subject(), "policy "+now.Format(time.RFC3339Nano), now, now.Add(episodeKept), figures)
}
