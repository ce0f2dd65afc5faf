package saccount

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CreateOrg makes an organization. Errors: ErrInvalid, ErrExists where the ID
// was used before, and the store's.
func (s *Service) CreateOrg(ctx context.Context, by Actor, spec OrgSpec) (Org, error) {
	now := Micro(s.now())
	r := guardOf(ctx).Request
	if r.ID != "" {
		ctx2, id, err := s.claimOrg(ctx, spec, now)
		if err != nil {
			return Org{}, fmt.Errorf("saccount: create org: %w", err)
		}
		ctx, spec.ID = ctx2, id
	}
	n, open, err := s.newOrg(spec, now)
	if err != nil {
		return Org{}, fmt.Errorf("saccount: create org: %w", err)
	}
	n.Request = r.ID
	if n, err = s.create(ctx, by, n, open, now); err != nil {
		if r.ID != "" && errors.Is(err, ErrExists) { // by the same request, meanwhile?
			if _, _, e := s.claimOrg(WithGuard(ctx, Guard{Request: r}), spec, now); errors.Is(e, ErrDone) {
				return Org{}, fmt.Errorf("saccount: create org: %w", e)
			}
		}
		return Org{}, err
	}
	return n.org(), nil
}

func (s *Service) newOrg(spec OrgSpec, now time.Time) (n *node, open []Opening, err error) {
	if spec.ID == "" {
		id, err := s.newID(now)
		if err != nil {
			return nil, nil, err
		}
		spec.ID = "org_" + id
	} else if err := checkID("organization id", spec.ID); err != nil {
		return nil, nil, err
	}
	if spec.Name == "" {
		spec.Name = spec.ID
		if len([]rune(spec.Name)) > MaxName {
			return nil, nil, fieldf("/name", "name: the id is too long to be one; give a name")
		}
	}
	n = &node{Record: Record{Kind: KindOrg, Org: spec.ID, ID: spec.ID, Labels: spec.Labels}}
	if n.Name, err = text("name", spec.Name, 1, MaxName); err != nil {
		return nil, nil, err
	}
	if err := checkZone(spec.Zone, now); err != nil {
		return nil, nil, err
	}
	n.Zone = spec.Zone
	if err := checkLabels(spec.Labels); err != nil {
		return nil, nil, err
	}
	if err := n.setThresholds(spec.Thresholds, now); err != nil {
		return nil, nil, err
	}
	open, err = setLimits(n, spec.Limits, n.Zone, now)
	return n, open, err
}

// claimOrg remembers a Request in HostPartition with the id of the organization
// that it will make, before it is made: no step reaches over two partitions, and
// what was asked again goes on under the same id.
func (s *Service) claimOrg(ctx context.Context, spec OrgSpec, now time.Time) (unguarded context.Context, id string, err error) {
	if err := s.begin("create org"); err != nil {
		return nil, "", err
	}
	n, _, err := s.newOrg(spec, now) // what is wrong is not remembered
	if err != nil {
		return nil, "", err
	}
	r := guardOf(ctx).Request
	b := Batch{Org: HostPartition, At: now}
	if _, err := s.lookup(ctx, n.ID, KindOrg, n.ID); errors.Is(err, ErrNotFound) {
		if err = s.remember(ctx, &b, n.subject()); err == nil {
			err = s.write(ctx, b)
		}
		if err != nil && !errors.Is(err, ErrDone) {
			return nil, "", err
		}
	} else if err != nil {
		return nil, "", err
	}
	d, _, err := s.done(ctx, HostPartition, r.ID, now)
	if errors.Is(err, ErrNotFound) {
		return nil, "", fmt.Errorf("organization %q: %w", n.ID, ErrExists)
	}
	if err != nil {
		return nil, "", err
	}
	if d.Mark != r.Mark {
		return nil, "", fmt.Errorf("request: %w", ErrDone) // and something else: its caller compares
	}
	l, err := s.lookup(ctx, d.Subject.ID(), KindOrg, d.Subject.ID())
	if errors.Is(err, ErrNotFound) {
		return WithGuard(ctx, Guard{}), d.Subject.ID(), nil
	}
	if err != nil {
		return nil, "", err
	}
	if n, err = readNode(l.Record); err != nil {
		return nil, "", err
	}
	if n.Request == r.ID {
		return nil, "", fmt.Errorf("request: %w", ErrDone)
	}
	return nil, "", fmt.Errorf("organization %q: %w", n.ID, ErrExists)
}

// GetOrg reads an organization. ErrNotFound where there is none, and where it
// was deleted, unless WithDeleted is given.
func (s *Service) GetOrg(ctx context.Context, id string, with ...Include) (Org, error) {
	n, err := s.get(ctx, id, KindOrg, id, with)
	if err != nil {
		return Org{}, err
	}
	return n.org(), nil
}

// UpdateOrg changes an organization. A new Zone is the default of limits that
// are set from then on, and touches none that is there. Errors: ErrInvalid,
// ErrNotFound, ErrConflict, and the store's.
func (s *Service) UpdateOrg(ctx context.Context, by Actor, id string, u Update) (Org, error) {
	n, err := s.update(ctx, by, id, KindOrg, id, u)
	if err != nil {
		return Org{}, err
	}
	return n.org(), nil
}

// DisableOrg refuses every key and member of the organization from now on.
func (s *Service) DisableOrg(ctx context.Context, by Actor, id string) error {
	return s.setDisabled(ctx, by, id, KindOrg, id, true)
}

// EnableOrg undoes DisableOrg.
func (s *Service) EnableOrg(ctx context.Context, by Actor, id string) error {
	return s.setDisabled(ctx, by, id, KindOrg, id, false)
}

// DeleteOrg deletes an organization with everything in it, for good. Its
// history stays readable; its id is never used again.
func (s *Service) DeleteOrg(ctx context.Context, by Actor, id string) error {
	return s.remove(ctx, by, id, KindOrg, id)
}
