package saccount

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Need is why a key needs a hand.
type Need string

// The needs. Days are the organization's: see KeyPolicy.
const (
	NeedUnused    Need = "unused"     // not used for UnusedDays
	NeedNeverUsed Need = "never used" // not used since it was made, a week or UnusedDays ago
	NeedExpiring  Need = "expiring"   // expires within ExpiryDays
	NeedExpired   Need = "expired"    // and still there
	NeedRotation  Need = "rotation"   // its secret is older than RotateDays
	NeedLifetime  Need = "lifetime"   // lives longer than the policy, or the Config, lets new keys
	NeedNoExpiry  Need = "no expiry"  // lives for ever
	NeedNoLimit   Need = "no limit"   // neither it nor its account nor the organization has a limit
	NeedName      Need = "name"       // its name says nothing
	NeedLeaked    Need = "leaked"     // its token was reported as leaked
)

var allNeeds = []Need{
	NeedUnused, NeedNeverUsed, NeedExpiring, NeedExpired, NeedRotation, NeedLifetime, NeedNoExpiry, NeedNoLimit, NeedName, NeedLeaked,
}

// Needs are all needs, in the order of Needs of a NeedyKey.
func Needs() []Need { return slices.Clone(allNeeds) }

// neverUsedAfter is how long a new key may wait for its first use.
const neverUsedAfter = 7 * policyDay

// NeedyKey is a key that needs a hand.
type NeedyKey struct {
	Key     Key      `json:"key"`
	Account string   `json:"account_name"` // the name of the key's account
	Needs   []Need   `json:"needs"`
	Advice  []string `json:"advice"` // what to do about each, for a person
}

// NeedFilter narrows KeysInNeed. The zero NeedFilter is every need of every key
// of the organization.
type NeedFilter struct {
	Account string // of this service account; empty: of all
	Needs   []Need // with at least one of these; empty: with any
	Limit   int    // of a page, 1 to MaxPage; 0 is DefaultPage
	Cursor  string // Page.Next of the page before
}

// KeysInNeed lists the keys of an organization that need a hand, in order of
// creation, each with all of its needs that the filter asks for. Deleted keys,
// those of deleted accounts, and those that were disabled by hand are not among
// them; one that was reported as leaked is. A call reads up to 1,000 keys, and
// the accounts that it must know, those of a hundred keys at once: a page may
// hold fewer than Limit, or none, and Next says whether there is more. Errors:
// ErrInvalid, ErrNotFound, and the store's.
func (s *Service) KeysInNeed(ctx context.Context, org string, f NeedFilter) (p Page[NeedyKey], err error) {
	if err := s.begin("keys in need"); err != nil {
		return p, err
	}
	p, err = s.keysInNeed(ctx, org, f)
	if err != nil {
		err = fmt.Errorf("saccount: keys in need: %w", err)
	}
	return p, err
}

func (s *Service) keysInNeed(ctx context.Context, org string, f NeedFilter) (p Page[NeedyKey], err error) {
	if f.Limit == 0 {
		f.Limit = DefaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return p, invalidf("page of %d: give 1 to %d", f.Limit, MaxPage)
	}
	for _, n := range f.Needs {
		if !slices.Contains(allNeeds, n) {
			return p, invalidf("need %.40q: there is no such", n)
		}
	}
	if len(f.Needs) == 0 {
		f.Needs = allNeeds
	}
	l, err := s.living(ctx, org, KindOrg, org)
	if err != nil {
		return p, err
	}
	o, err := readNode(l.Record)
	if err != nil {
		return p, err
	}
	r := needReader{s: s, org: o, policy: o.policy(), now: Micro(s.now()), asked: f.Needs, accounts: map[string]*node{}}
	if f.Account != "" {
		if a, err := r.account(ctx, f.Account); err != nil {
			return p, err
		} else if a == nil {
			return p, fmt.Errorf("account %q: %w", f.Account, ErrNotFound)
		}
	}
	recs, more, err := s.store.List(ctx, ListQuery{Kind: KindKey, Org: org, Parent: f.Account, After: f.Cursor, Limit: MaxPage, Now: r.now})
	if err != nil {
		return p, err
	}
	p.Items = []NeedyKey{}
	for i := range recs {
		r.ahead = recs[i+1:]
		k, err := r.read(ctx, recs[i])
		if err != nil {
			return p, err
		}
		if k != nil {
			p.Items = append(p.Items, *k)
		}
		if len(p.Items) == f.Limit && (more || i+1 < len(recs)) {
			p.Next = recs[i].ID
			return p, nil
		}
	}
	if more {
		p.Next = recs[len(recs)-1].ID
	}
	return p, nil
}

// AllKeysInNeed iterates over KeysInNeed. An error ends it.
func (s *Service) AllKeysInNeed(ctx context.Context, org string, f NeedFilter) iter.Seq2[NeedyKey, error] {
	return func(yield func(NeedyKey, error) bool) {
		for {
			p, err := s.KeysInNeed(ctx, org, f)
			if err != nil {
				yield(NeedyKey{}, err)
				return
			}
			for _, k := range p.Items {
				if !yield(k, nil) {
					return
				}
			}
			if f.Cursor = p.Next; p.Next == "" {
				return
			}
		}
	}
}

// needReader looks at one page of keys.
type needReader struct {
	s        *Service
	org      *node
	policy   KeyPolicy
	now      time.Time
	asked    []Need
	accounts map[string]*node // nil: deleted
	ahead    []Record         // the keys to come
}

// accountsAhead is of how many of the keys to come the accounts are read along
// with one that must be known.
const accountsAhead = 100

// account reads an account once, and with it those of the keys to come; nil
// where it does not live.
func (r *needReader) account(ctx context.Context, id string) (*node, error) {
	if a, ok := r.accounts[id]; ok {
		return a, nil
	}
	ids := []string{id}
	r.accounts[id] = nil
	for _, k := range r.ahead[:min(accountsAhead, len(r.ahead))] {
		if _, ok := r.accounts[k.Parent]; !ok {
			ids = append(ids, k.Parent)
			r.accounts[k.Parent] = nil
		}
	}
	ls, err := r.s.store.Lookups(ctx, r.org.ID, KindAccount, ids)
	if err != nil {
		return nil, err
	}
	for i := range ls {
		if ls[i].Record.ID == "" || ls[i].dead() {
			continue
		}
		if r.accounts[ids[i]], err = readNode(ls[i].Record); err != nil {
			return nil, err
		}
	}
	return r.accounts[id], nil
}

// read gives a key with its needs; nil where it has none.
func (r *needReader) read(ctx context.Context, rec Record) (*NeedyKey, error) {
	n, err := readNode(rec)
	if err != nil {
		return nil, err
	}
	out := &NeedyKey{}
	add := func(need Need, format string, args ...any) {
		if slices.Contains(r.asked, need) {
			out.Needs, out.Advice = append(out.Needs, need), append(out.Advice, fmt.Sprintf(format, args...))
		}
	}
	if !n.Leaked.IsZero() {
		add(NeedLeaked, "its token was reported as leaked on %s: rotate it, move its clients, then enable it", n.Leaked.Format(time.DateOnly))
	} else if n.Disabled {
		return nil, nil
	}
	if !n.Disabled {
		if err := r.look(ctx, n, add); err != nil {
			return nil, err
		}
	}
	if len(out.Needs) == 0 {
		return nil, nil
	}
	a, err := r.account(ctx, n.Parent)
	if a == nil || err != nil {
		return nil, err // with its account it is deleted
	}
	out.Key, out.Account = n.key(r.now), a.Name
	return out, nil
}

func (r *needReader) look(ctx context.Context, n *node, add func(need Need, format string, args ...any)) error {
	p, now := r.policy, r.now
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	if n.Record.Status(now) == StatusExpired {
		add(NeedExpired, "it expired on %s: delete it, or make a new one", day(n.Expires))
	} else {
		unused := time.Duration(p.UnusedDays) * policyDay
		if n.Use.At.IsZero() {
			if now.Sub(n.Created) >= min(neverUsedAfter, unused) {
				add(NeedNeverUsed, "it was never used since %s: delete it if nobody waits for it", day(n.Created))
			}
		} else if now.Sub(n.Use.At) >= unused {
			add(NeedUnused, "it was last used on %s: delete it, or disable it and see who calls", day(n.Use.At))
		}
		if !n.Expires.IsZero() && n.Expires.Sub(now) <= time.Duration(p.ExpiryDays)*policyDay {
			add(NeedExpiring, "it expires on %s: make a new one and move its clients", day(n.Expires))
		}
		if len(n.Secrets) > 0 && p.RotateDays > 0 {
			if made := n.Secrets[len(n.Secrets)-1].Created; now.Sub(made) >= time.Duration(p.RotateDays)*policyDay {
				add(NeedRotation, "its secret is from %s: rotate it", day(made))
			}
		}
		switch longest := r.s.lifetime(r.org.Keys); {
		case longest > 0 && (n.Expires.IsZero() || n.Expires.Sub(n.Created) > longest):
			add(NeedLifetime, "keys live at most %d days: set an expiry", int(longest/policyDay))
		case n.Expires.IsZero():
			add(NeedNoExpiry, "it lives for ever: set an expiry")
		}
		for _, a := range AdviseName(n.Name) {
			add(NeedName, "%s", a)
		}
		if slices.Contains(r.asked, NeedNoLimit) && len(n.Limits) == 0 && len(r.org.Limits) == 0 {
			a, err := r.account(ctx, n.Parent)
			if err != nil {
				return err
			}
			if a != nil && len(a.Limits) == 0 {
				add(NeedNoLimit, "neither it nor its account nor the organization has a limit: set one")
			}
		}
	}
	return nil
}
