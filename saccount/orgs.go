package saccount

import (
	"context"
	"fmt"
	"time"
)

// CreateOrg makes an organization. Errors: ErrInvalid, ErrExists where the ID
// was used before, and the store's.
func (s *Service) CreateOrg(ctx context.Context, by Actor, spec OrgSpec) (Org, error) {
	now := Micro(s.now())
	n, open, err := s.newOrg(spec, now)
	if err != nil {
		return Org{}, fmt.Errorf("saccount: create org: %w", err)
	}
	if n, err = s.create(ctx, by, n, open, now); err != nil {
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
	open, err = setLimits(n, spec.Limits, n.Zone, now)
	return n, open, err
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
