package saccount

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/apikey"
)

// CreateKey makes a key of a service account and gives its token, which is
// shown this once and kept by nobody: store it now. Errors: ErrInvalid,
// ErrNotFound where the account does not live, ErrExists where a living key of
// the account has the name, and the store's.
func (s *Service) CreateKey(ctx context.Context, by Actor, org, account string, spec KeySpec) (apikey.Token, Key, error) {
	now := Micro(s.now())
	n, open, err := s.newKey(ctx, org, account, spec, now)
	if err != nil {
		return apikey.Token{}, Key{}, fmt.Errorf("saccount: create key: %w", err)
	}
	token, err := s.addSecret(n, now)
	if err != nil {
		return apikey.Token{}, Key{}, err
	}
	if n, err = s.create(ctx, by, n, open, now); err != nil {
		return apikey.Token{}, Key{}, err
	}
	return token, n.key(now), nil
}

func (s *Service) newKey(ctx context.Context, org, account string, spec KeySpec, now time.Time) (n *node, open []Opening, err error) {
	id, err := s.newID(now)
	if err != nil {
		return nil, nil, err
	}
	l, err := s.living(ctx, org, KindAccount, account)
	if err != nil {
		return nil, nil, err
	}
	o, err := readNode(*l.Org)
	if err != nil {
		return nil, nil, err
	}
	n = &node{Record: Record{Kind: KindKey, Org: org, ID: id, Parent: account, Labels: spec.Labels}}
	n.Prefix, n.Environment = s.prefix.String(), spec.Environment
	if n.Name, err = text("name", spec.Name, 1, MaxName); err != nil {
		return nil, nil, err
	}
	if err := checkEnvironment(spec.Environment); err != nil {
		return nil, nil, err
	}
	if n.Scopes, err = checkScopes(spec.Scopes); err != nil {
		return nil, nil, err
	}
	if n.AllowFrom, err = checkAllowFrom(spec.AllowFrom); err != nil {
		return nil, nil, err
	}
	if n.Rate, err = checkRate(spec.Rate); err != nil {
		return nil, nil, err
	}
	if n.Expires, err = s.checkExpiry(o.Keys, spec.Expires, now, now); err != nil {
		return nil, nil, err
	}
	open, err = s.below(ctx, n, spec.Labels, spec.Limits, spec.Thresholds, now)
	return n, open, err
}

// addSecret makes a new secret for a key.
func (s *Service) addSecret(n *node, now time.Time) (apikey.Token, error) {
	prefix := s.prefix
	if n.Kind == KindManagementKey {
		prefix = s.managePrefix
	}
	token, err := apikey.Generate(s.random, prefix, n.ID)
	if err != nil {
		return apikey.Token{}, fmt.Errorf("saccount: make a token: %w", err)
	}
	n.Serial++
	n.Prefix = prefix.String()
	n.Secrets = append(slices.Clone(n.Secrets), secret{Serial: n.Serial, Hash: s.hasher.Hash(token.Parsed()), Created: now})
	return token, nil
}

// GetKey reads a key. ErrNotFound where there is none in this organization,
// and where it, its account or organization was deleted, unless WithDeleted is
// given.
func (s *Service) GetKey(ctx context.Context, org, id string, with ...Include) (Key, error) {
	n, err := s.get(ctx, org, KindKey, id, with)
	if err != nil {
		return Key{}, err
	}
	return n.key(s.now()), nil
}

// UpdateKey changes a key. Errors are those of UpdateAccount.
func (s *Service) UpdateKey(ctx context.Context, by Actor, org, id string, u Update) (Key, error) {
	n, err := s.update(ctx, by, org, KindKey, id, u)
	if err != nil {
		return Key{}, err
	}
	return n.key(s.now()), nil
}

// DisableKey refuses the key from now on: when it has returned, the key does
// not authenticate in this process and is not charged in any.
func (s *Service) DisableKey(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindKey, id, true)
}

// EnableKey undoes DisableKey.
func (s *Service) EnableKey(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindKey, id, false)
}

// DeleteKey deletes a key, for good. Its history stays.
func (s *Service) DeleteKey(ctx context.Context, by Actor, org, id string) error {
	return s.remove(ctx, by, org, KindKey, id)
}

// RotateKey gives a key a new secret. The key keeps its id, limits, usage and
// history. The old secret lives for overlap longer, so that clients can be
// moved; 0 ends it at once. At most two secrets live: rotating again ends the
// older. One that was reported as leaked has ended, and gets no overlap. Errors:
// ErrInvalid where overlap is negative or reaches beyond the
// key's expiry, ErrNotFound, and the store's.
func (s *Service) RotateKey(ctx context.Context, by Actor, org, id string, overlap time.Duration) (apikey.Token, Key, error) {
	token, n, err := s.rotate(ctx, by, org, KindKey, id, overlap)
	if err != nil {
		return apikey.Token{}, Key{}, err
	}
	return token, n.key(s.now()), nil
}

func (s *Service) rotate(ctx context.Context, by Actor, org string, kind Kind, id string, overlap time.Duration) (token apikey.Token, n *node, err error) {
	n, err = s.change(ctx, by, org, kind, id, 0, "rotate", func(n *node, b *Batch) error {
		if overlap < 0 {
			return fieldf("/overlap", "overlap %v: give 0 to end the old secret at once, or more", overlap)
		}
		if n.Record.Status(b.At) == StatusExpired {
			return invalidf("the key expired on %s; make a new one", n.Expires.Format(time.RFC3339))
		}
		ends := Micro(b.At.Add(overlap))
		if ends.Before(b.At) || !n.Expires.IsZero() && ends.After(n.Expires) {
			return fieldf("/overlap", "overlap %v: the old secret would outlive the key, which expires on %s", overlap, n.Expires.Format(time.RFC3339))
		}
		last := n.Secrets[len(n.Secrets)-1]
		// What has ended, as a leaked secret has, does not live again.
		if n.Secrets = nil; overlap > 0 && (last.Ends.IsZero() || b.At.Before(last.Ends)) {
			if last.Ends.IsZero() || ends.Before(last.Ends) {
				last.Ends = ends
			}
			n.Secrets = []secret{last}
		}
		n.Leaked = time.Time{}
		var e error
		token, e = s.addSecret(n, b.At)
		return e
	})
	return token, n, err
}

// CancelRotation ends a key's new secret at once and gives the old one its
// life back. Errors: ErrInvalid where no overlap is under way (after it there
// is nothing to cancel), ErrNotFound, and the store's.
func (s *Service) CancelRotation(ctx context.Context, by Actor, org, id string) (Key, error) {
	n, err := s.change(ctx, by, org, KindKey, id, 0, "cancel_rotation", func(n *node, b *Batch) error {
		if len(n.Secrets) < 2 || !b.At.Before(n.Secrets[0].Ends) {
			return invalidf("no rotation is under way: the old secret has ended")
		}
		n.Secrets = slices.Clone(n.Secrets[:1])
		n.Secrets[0].Ends = time.Time{}
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return n.key(s.now()), nil
}
