package saccount

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// errUnchanged ends a change that has nothing to do.
var errUnchanged = errors.New("unchanged")

// maxTries bounds how often a change is tried anew when others change the same
// record at the same time.
const maxTries = 16

// create puts a new record.
func (s *Service) create(ctx context.Context, by Actor, n *node, open []Opening, now time.Time) (*node, error) {
	verb := "create " + n.Kind.String()
	if err := s.begin(verb); err != nil {
		return nil, err
	}
	if err := checkActor(by); err != nil {
		return nil, fmt.Errorf("saccount: %s: %w", verb, err)
	}
	n.Created, n.CreatedBy = Micro(now), by
	rec, err := n.record()
	if err != nil {
		return nil, err
	}
	n.Revision = 1
	b := Batch{Org: n.Org, At: now, Changes: []Change{{Record: rec, Quiet: true}}, Open: open}
	if err := s.noteChange(ctx, &b, by, "create", nil, n, now); err != nil {
		return nil, err
	}
	if err = s.remember(ctx, &b, n.subject()); err == nil {
		err = s.write(ctx, b)
	}
	if err != nil {
		return nil, fmt.Errorf("saccount: %s: %w", verb, err)
	}
	return n, nil
}

// change reads a living record, lets edit change it, and writes it with an
// audit entry. revision, where not zero, must be the record's.
func (s *Service) change(ctx context.Context, by Actor, org string, kind Kind, id string, revision int64, action string, edit func(*node, *Batch) error) (*node, error) {
	verb := strings.ReplaceAll(action, "_", " ") + " of " + kind.String()
	if err := s.begin(verb); err != nil {
		return nil, err
	}
	if err := checkActor(by); err != nil {
		return nil, fmt.Errorf("saccount: %s: %w", verb, err)
	}
	if revision == 0 {
		revision = guardOf(ctx).Revision
	}
	for try := 1; ; try++ {
		n, err := s.tryChange(ctx, by, org, kind, id, revision, action, edit)
		if err == nil {
			return n, nil
		}
		if revision != 0 || try == maxTries || !errors.Is(err, errMoved) {
			return nil, fmt.Errorf("saccount: %s: %w", verb, err)
		}
	}
}

// errMoved marks a conflict of the store, as against one that edit found.
var errMoved = errors.New("another change came first")

func (s *Service) tryChange(ctx context.Context, by Actor, org string, kind Kind, id string, revision int64, action string, edit func(*node, *Batch) error) (*node, error) {
	l, err := s.living(ctx, org, kind, id)
	if err != nil {
		return nil, err
	}
	n, err := readNode(l.Record)
	if err != nil {
		return nil, err
	}
	if revision != 0 && revision != n.Revision {
		return nil, fmt.Errorf("%w: it is at revision %d, not %d; read it again", ErrConflict, n.Revision, revision)
	}
	before := *n
	now := Micro(s.now())
	b := Batch{Org: n.Org, At: now}
	n.Labels = maps.Clone(n.Labels)
	if err := s.remember(ctx, &b, n.subject()); err != nil {
		return nil, err
	}
	if err := edit(n, &b); err != nil {
		if !errors.Is(err, errUnchanged) {
			return nil, err
		}
		if len(b.Changes) == 0 {
			return n, nil
		}
		return n, s.write(ctx, b) // a request that changed nothing is remembered too
	}
	n.Updated = now
	rec, err := n.record()
	if err != nil {
		return nil, err
	}
	n.Revision++
	if err := s.noteChange(ctx, &b, by, action, &before, n, now); err != nil {
		return nil, err
	}
	b.Changes = append(b.Changes, Change{Record: rec})
	err = s.write(ctx, b)
	// Whatever Write says, it may have written: nothing read before counts any more.
	s.gens.raise(n.Org)
	if errors.Is(err, ErrConflict) {
		return nil, fmt.Errorf("%w: %w", errMoved, err)
	}
	return n, err
}

// living looks a record up that lives, and everything above it.
func (s *Service) living(ctx context.Context, org string, kind Kind, id string) (Lineage, error) {
	l, err := s.lookup(ctx, org, kind, id)
	if err == nil && l.dead() {
		err = fmt.Errorf("%s %q: %w", kind, id, ErrNotFound)
	}
	return l, err
}

func (s *Service) lookup(ctx context.Context, org string, kind Kind, id string) (Lineage, error) {
	if org == "" || id == "" {
		return Lineage{}, fmt.Errorf("%s %q: %w", kind, id, ErrNotFound)
	}
	return s.store.Lookup(ctx, org, kind, id)
}

// dead reports whether the record or anything above it was deleted.
func (l *Lineage) dead() bool {
	return !l.Record.Deleted.IsZero() || l.Account != nil && !l.Account.Deleted.IsZero() || l.Org != nil && !l.Org.Deleted.IsZero()
}

// update is the change that an Update describes.
func (s *Service) update(ctx context.Context, by Actor, org string, kind Kind, id string, u Update) (*node, error) {
	zone := ""
	var policy *KeyPolicy
	if (len(u.Limits) > 0 || u.Expires != nil) && kind != KindOrg && org != HostPartition {
		l, err := s.living(ctx, org, KindOrg, org)
		if err != nil {
			return nil, fmt.Errorf("saccount: update of %s: %w", kind, err)
		}
		o, err := readNode(l.Record)
		if err != nil {
			return nil, err
		}
		if zone = o.Zone; kind == KindKey {
			policy = o.Keys
		}
	}
	return s.change(ctx, by, org, kind, id, u.Revision, "update", func(n *node, b *Batch) error {
		return s.apply(n, b, &u, zone, policy)
	})
}

func (s *Service) apply(n *node, b *Batch, u *Update, zone string, policy *KeyPolicy) (err error) {
	if err := u.fits(n.Kind); err != nil {
		return err
	}
	if u.Name != nil {
		least := 1
		if n.Kind == KindMember {
			least = 0
		}
		if n.Name, err = text("name", *u.Name, least, MaxName); err != nil {
			return err
		}
	}
	if u.Description != nil {
		if n.Description, err = text("description", *u.Description, 0, MaxDescription); err != nil {
			return err
		}
	}
	if u.Zone != nil {
		if err := checkZone(*u.Zone, b.At); err != nil {
			return err
		}
		n.Zone = *u.Zone
	}
	if u.Keys != nil {
		if err := u.Keys.check(); err != nil {
			return err
		}
		keys := *u.Keys
		if n.Keys = &keys; keys == (KeyPolicy{}) {
			n.Keys = nil
		}
	}
	for k, v := range u.Labels {
		if v == nil {
			delete(n.Labels, k)
			continue
		}
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[k] = *v
	}
	if err := checkLabels(n.Labels); err != nil {
		return err
	}
	if n.Kind == KindOrg {
		zone = n.Zone
	}
	open, err := setLimits(n, u.Limits, zone, b.At)
	if err != nil {
		return err
	}
	b.Open = open
	if u.Thresholds != nil {
		if err := n.setThresholds(*u.Thresholds, b.At); err != nil {
			return err
		}
	}
	if u.Rate != nil {
		if n.Rate, err = checkRate(u.Rate); err != nil {
			return err
		}
	}
	if u.Environment != nil {
		if err := checkEnvironment(*u.Environment); err != nil {
			return err
		}
		n.Environment = *u.Environment
	}
	if u.Scopes != nil {
		if n.Scopes, err = checkScopes(*u.Scopes); err != nil {
			return err
		}
	}
	if u.AllowFrom != nil {
		if n.AllowFrom, err = checkAllowFrom(*u.AllowFrom); err != nil {
			return err
		}
	}
	if u.Expires != nil {
		if n.Expires, err = s.checkExpiry(policy, *u.Expires, n.Created, b.At); err != nil {
			return err
		}
		for i := range n.Secrets { // an overlap never outlives its key
			if e := &n.Secrets[i].Ends; !n.Expires.IsZero() && e.After(n.Expires) {
				*e = n.Expires
			}
		}
	}
	return nil
}

// setThresholds sets those of limits on the record and below it.
func (n *node) setThresholds(ts []quota.Threshold, now time.Time) error {
	probe := quota.Limit{Name: quota.DefaultLimitName, Thresholds: ts}
	if err := probe.Validate(now); err != nil {
		return within("/thresholds", limitErr(err))
	}
	n.Thresholds = slices.Clone(ts)
	return nil
}

// fits refuses fields that the kind does not have.
func (u *Update) fits(kind Kind) error {
	for _, f := range []struct {
		name string
		set  bool
		in   []Kind
	}{
		{"Description", u.Description != nil, []Kind{KindAccount}},
		{"Zone", u.Zone != nil, []Kind{KindOrg}},
		{"Keys", u.Keys != nil, []Kind{KindOrg}},
		{"Rate", u.Rate != nil, []Kind{KindAccount, KindKey}},
		{"Environment", u.Environment != nil, []Kind{KindKey}},
		{"Scopes", u.Scopes != nil, []Kind{KindKey}},
		{"AllowFrom", u.AllowFrom != nil, []Kind{KindKey, KindManagementKey}},
		{"Expires", u.Expires != nil, []Kind{KindKey, KindManagementKey}},
		{"Labels", len(u.Labels) > 0, []Kind{KindOrg, KindAccount, KindMember, KindKey}},
		{"Thresholds", u.Thresholds != nil, []Kind{KindOrg, KindAccount, KindMember, KindKey}},
		{"Limits", len(u.Limits) > 0, []Kind{KindOrg, KindAccount, KindMember, KindKey}},
	} {
		ok := !f.set
		for _, k := range f.in {
			ok = ok || k == kind
		}
		if !ok {
			return fieldf("", "%s: a record of kind %s has none", f.name, kind)
		}
	}
	return nil
}

// checkZone checks an organization's zone; empty is UTC.
func checkZone(zone string, now time.Time) error {
	if zone == "" {
		return nil
	}
	p := quota.Period{Unit: quota.Day, Zone: zone}
	if err := p.Validate(now); err != nil {
		return within("/zone", limitErr(err))
	}
	return nil
}

// setDisabled disables or enables a record. Doing it twice is no error.
func (s *Service) setDisabled(ctx context.Context, by Actor, org string, kind Kind, id string, disabled bool) error {
	action := "enable"
	if disabled {
		action = "disable"
	}
	_, err := s.change(ctx, by, org, kind, id, 0, action, func(n *node, _ *Batch) error {
		if n.Disabled == disabled {
			return errUnchanged
		}
		n.Disabled = disabled
		return nil
	})
	return err
}

// remove deletes a record, and with it everything below: a key lives while it,
// its account and its organization do, so one change is enough.
func (s *Service) remove(ctx context.Context, by Actor, org string, kind Kind, id string) error {
	_, err := s.change(ctx, by, org, kind, id, 0, "delete", func(n *node, b *Batch) error {
		n.Deleted = b.At
		n.Secrets = nil
		return nil
	})
	return err
}
