package saccount

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Include widens what a Get answers.
type Include uint8

// WithDeleted makes a Get answer a deleted record too, for history.
const WithDeleted Include = 1

func (s *Service) get(ctx context.Context, org string, kind Kind, id string, with []Include) (*node, error) {
	verb := "get " + kind.String()
	if err := s.begin(verb); err != nil {
		return nil, err
	}
	find := s.living
	for _, w := range with {
		if w == WithDeleted {
			find = s.lookup
		}
	}
	l, err := find(ctx, org, kind, id)
	if err != nil {
		return nil, fmt.Errorf("saccount: %s: %w", verb, err)
	}
	return readNode(l.Record)
}

// Filter narrows a list. The zero Filter lists everything that lives, in order
// of creation, DefaultPage records a page.
type Filter struct {
	// ByName orders accounts, and the keys of one account, by name, byte by byte.
	ByName     bool
	Statuses   []Status // of the record itself; empty: all but the deleted
	NamePrefix string
	Labels     map[string]string // all of them
	Limit      int               // of a page, 1 to MaxPage; 0 is DefaultPage
	Cursor     string            // Page.Next of the page before
}

// DefaultPage is how many records a page has where the Filter does not say.
const DefaultPage = 100

// Page is a page of a list.
type Page[T any] struct {
	Items []T
	Next  string // the Cursor of the page after; empty where there is none
}

func list[T any](ctx context.Context, s *Service, kind Kind, org, parent string, f Filter, show func(*node, time.Time) T) (p Page[T], err error) {
	verb := "list " + kind.String() + "s"
	if err := s.begin(verb); err != nil {
		return p, err
	}
	if f.Limit == 0 {
		f.Limit = DefaultPage
	}
	if kind != KindOrg && (kind != KindManagementKey || org != HostPartition) { // what lies in a deleted organization or account is history, to be asked for
		above, id := KindOrg, org
		if parent != "" {
			above, id = KindAccount, parent
		}
		find := s.living
		for _, st := range f.Statuses {
			if st == StatusDeleted {
				find = s.lookup
			}
		}
		if _, err := find(ctx, org, above, id); err != nil {
			return p, fmt.Errorf("saccount: %s: %w", verb, err)
		}
	}
	now := s.now()
	q := ListQuery{
		Kind: kind, Org: org, Parent: parent, ByName: f.ByName, After: f.Cursor, Limit: f.Limit,
		Statuses: f.Statuses, NamePrefix: f.NamePrefix, Labels: f.Labels, Now: now,
	}
	recs, more, err := s.store.List(ctx, q)
	if err != nil {
		return p, fmt.Errorf("saccount: %s: %w", verb, err)
	}
	p.Items = make([]T, 0, len(recs))
	for _, r := range recs {
		n, err := readNode(r)
		if err != nil {
			return p, err
		}
		p.Items = append(p.Items, show(n, now))
	}
	if more {
		p.Next = q.Cursor(&recs[len(recs)-1])
	}
	return p, nil
}

// all walks the pages of a list.
func all[T any](f Filter, page func(Filter) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			p, err := page(f)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, x := range p.Items {
				if !yield(x, nil) {
					return
				}
			}
			if f.Cursor = p.Next; p.Next == "" {
				return
			}
		}
	}
}

// ListOrgs lists organizations. Records that change while one pages are seen
// once, as they are when their page is read. Errors: ErrInvalid, the store's.
func (s *Service) ListOrgs(ctx context.Context, f Filter) (Page[Org], error) {
	return list(ctx, s, KindOrg, "", "", f, func(n *node, _ time.Time) Org { return n.org() })
}

// Orgs iterates over ListOrgs. An error ends it.
func (s *Service) Orgs(ctx context.Context, f Filter) iter.Seq2[Org, error] {
	return all(f, func(f Filter) (Page[Org], error) { return s.ListOrgs(ctx, f) })
}

// ListAccounts lists the service accounts of an organization.
func (s *Service) ListAccounts(ctx context.Context, org string, f Filter) (Page[Account], error) {
	return list(ctx, s, KindAccount, org, "", f, func(n *node, _ time.Time) Account { return n.account() })
}

// Accounts iterates over ListAccounts. An error ends it.
func (s *Service) Accounts(ctx context.Context, org string, f Filter) iter.Seq2[Account, error] {
	return all(f, func(f Filter) (Page[Account], error) { return s.ListAccounts(ctx, org, f) })
}

// ListMembers lists the members of an organization.
func (s *Service) ListMembers(ctx context.Context, org string, f Filter) (Page[Member], error) {
	return list(ctx, s, KindMember, org, "", f, func(n *node, _ time.Time) Member { return n.member() })
}

// Members iterates over ListMembers. An error ends it.
func (s *Service) Members(ctx context.Context, org string, f Filter) iter.Seq2[Member, error] {
	return all(f, func(f Filter) (Page[Member], error) { return s.ListMembers(ctx, org, f) })
}

// ListKeys lists the keys of a service account; with an empty account those of
// the whole organization, those of deleted accounts among them.
func (s *Service) ListKeys(ctx context.Context, org, account string, f Filter) (Page[Key], error) {
	return list(ctx, s, KindKey, org, account, f, (*node).key)
}

// MaxCounted is the most keys of an account that CountKeys counts.
const MaxCounted = 1000

// CountKeys counts the keys of up to MaxPage service accounts that are not
// deleted, up to MaxCounted of each, and says when one of those was last used,
// in one read: a KeyCount for each account, in their order, zero where it is
// not there. Keys of a deleted account count where they were not deleted
// before it. Errors: ErrInvalid where there are more accounts, and the store's.
func (s *Service) CountKeys(ctx context.Context, org string, accounts []string) ([]KeyCount, error) {
	if err := s.begin("count keys"); err != nil {
		return nil, err
	}
	n, err := s.store.CountKeys(ctx, org, accounts, MaxCounted)
	if err != nil {
		return nil, fmt.Errorf("saccount: count keys: %w", err)
	}
	return n, nil
}

// Keys iterates over ListKeys. An error ends it.
func (s *Service) Keys(ctx context.Context, org, account string, f Filter) iter.Seq2[Key, error] {
	return all(f, func(f Filter) (Page[Key], error) { return s.ListKeys(ctx, org, account, f) })
}
