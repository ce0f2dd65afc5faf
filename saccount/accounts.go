package saccount

import (
	"context"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// CreateAccount makes a service account. Errors: ErrInvalid, ErrNotFound where
// the organization does not live, ErrExists where a living account has the
// name, and the store's.
func (s *Service) CreateAccount(ctx context.Context, by Actor, org string, spec AccountSpec) (Account, error) {
	now := Micro(s.now())
	n, open, err := s.newAccount(ctx, org, spec, now)
	if err != nil {
		return Account{}, fmt.Errorf("saccount: create account: %w", err)
	}
	if n, err = s.create(ctx, by, n, open, now); err != nil {
		return Account{}, err
	}
	return n.account(), nil
}

func (s *Service) newAccount(ctx context.Context, org string, spec AccountSpec, now time.Time) (n *node, open []Opening, err error) {
	id, err := s.newID(now)
	if err != nil {
		return nil, nil, err
	}
	n = &node{Record: Record{Kind: KindAccount, Org: org, ID: "sa_" + id, Parent: org, Labels: spec.Labels}}
	if n.Name, err = text("name", spec.Name, 1, MaxName); err != nil {
		return nil, nil, err
	}
	if n.Description, err = text("description", spec.Description, 0, MaxDescription); err != nil {
		return nil, nil, err
	}
	if n.Rate, err = checkRate(spec.Rate); err != nil {
		return nil, nil, err
	}
	open, err = s.below(ctx, n, spec.Labels, spec.Limits, spec.Thresholds, now)
	return n, open, err
}

// below checks what every new record below an organization has: labels, thresholds, and
// limits whose zone is the organization's unless they say otherwise.
func (s *Service) below(ctx context.Context, n *node, labels map[string]string, limits Limits, thresholds []quota.Threshold, now time.Time) ([]Opening, error) {
	if err := checkLabels(labels); err != nil {
		return nil, err
	}
	l, err := s.living(ctx, n.Org, KindOrg, n.Org)
	if err != nil {
		return nil, err
	}
	o, err := readNode(l.Record)
	if err != nil {
		return nil, err
	}
	if err := n.setThresholds(thresholds, now); err != nil {
		return nil, err
	}
	return setLimits(n, limits, o.Zone, now)
}

// GetAccount reads a service account. ErrNotFound where there is none in this
// organization, and where it was deleted, unless WithDeleted is given.
func (s *Service) GetAccount(ctx context.Context, org, id string, with ...Include) (Account, error) {
	n, err := s.get(ctx, org, KindAccount, id, with)
	if err != nil {
		return Account{}, err
	}
	return n.account(), nil
}

// UpdateAccount changes a service account. Errors: ErrInvalid, ErrNotFound,
// ErrConflict where Update.Revision is not the record's, ErrExists where a
// living account has the name, and the store's.
func (s *Service) UpdateAccount(ctx context.Context, by Actor, org, id string, u Update) (Account, error) {
	n, err := s.update(ctx, by, org, KindAccount, id, u)
	if err != nil {
		return Account{}, err
	}
	return n.account(), nil
}

// DisableAccount refuses every key of the account from now on: when it has
// returned, none authenticates in this process and none is charged in any.
func (s *Service) DisableAccount(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindAccount, id, true)
}

// EnableAccount undoes DisableAccount.
func (s *Service) EnableAccount(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindAccount, id, false)
}

// DeleteAccount deletes an account with every key, for good. History stays.
func (s *Service) DeleteAccount(ctx context.Context, by Actor, org, id string) error {
	return s.remove(ctx, by, org, KindAccount, id)
}

// CreateMember makes a member: a person's seat. Errors: ErrInvalid,
// ErrNotFound, ErrExists where the ID was used before, and the store's.
func (s *Service) CreateMember(ctx context.Context, by Actor, org string, spec MemberSpec) (Member, error) {
	now := Micro(s.now())
	n, open, err := s.newMember(ctx, org, spec, now)
	if err != nil {
		return Member{}, fmt.Errorf("saccount: create member: %w", err)
	}
	if n, err = s.create(ctx, by, n, open, now); err != nil {
		return Member{}, err
	}
	return n.member(), nil
}

func (s *Service) newMember(ctx context.Context, org string, spec MemberSpec, now time.Time) (n *node, open []Opening, err error) {
	if err := checkID("member id", spec.ID); err != nil {
		return nil, nil, err
	}
	n = &node{Record: Record{Kind: KindMember, Org: org, ID: spec.ID, Parent: org, Labels: spec.Labels}}
	if n.Name, err = text("name", spec.Name, 0, MaxName); err != nil {
		return nil, nil, err
	}
	open, err = s.below(ctx, n, spec.Labels, spec.Limits, spec.Thresholds, now)
	return n, open, err
}

// GetMember reads a member's record. ErrNotFound where there is none in this
// organization, and where it was deleted, unless WithDeleted is given.
func (s *Service) GetMember(ctx context.Context, org, id string, with ...Include) (Member, error) {
	n, err := s.get(ctx, org, KindMember, id, with)
	if err != nil {
		return Member{}, err
	}
	return n.member(), nil
}

// UpdateMember changes a member. Errors are those of UpdateAccount.
func (s *Service) UpdateMember(ctx context.Context, by Actor, org, id string, u Update) (Member, error) {
	n, err := s.update(ctx, by, org, KindMember, id, u)
	if err != nil {
		return Member{}, err
	}
	return n.member(), nil
}

// DisableMember refuses the member from now on.
func (s *Service) DisableMember(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindMember, id, true)
}

// EnableMember undoes DisableMember.
func (s *Service) EnableMember(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindMember, id, false)
}

// DeleteMember deletes a member, for good. History stays.
func (s *Service) DeleteMember(ctx context.Context, by Actor, org, id string) error {
	return s.remove(ctx, by, org, KindMember, id)
}
