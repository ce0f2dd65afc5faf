package saccount

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// AuditEntry is what the audit log says of one change: written in the same
// atomic step as the change itself; that of a settled block before it.
type AuditEntry struct {
	Org     string          `json:"org"`
	Seq     int64           `json:"seq"` // from 1 in each organization, without gaps
	At      time.Time       `json:"at"`
	Actor   Actor           `json:"actor"`
	Action  string          `json:"action"`  // "create", "update", "disable", "rotate", ...
	Subject quota.Subject   `json:"subject"` // "account:sa_..."
	Addr    string          `json:"addr,omitempty"`
	Request string          `json:"request,omitempty"` // its id; see WithOrigin
	Reason  string          `json:"reason,omitempty"`  // why, where the change was nobody's wish: a policy, a leak
	Before  json.RawMessage `json:"before,omitempty"`  // the public record; none of what was made
	After   json.RawMessage `json:"after,omitempty"`
	Mark    string          `json:"mark,omitempty"` // ties it to the entries before it: see Service.Verify
}

// kept is what a store keeps of an AuditEntry as Data. The organization is in
// it so that a copy tells where it was taken from.
type kept struct {
	Org     string          `json:"org"`
	Actor   Actor           `json:"actor"`
	Action  string          `json:"action"`
	Subject quota.Subject   `json:"subject"`
	Addr    string          `json:"addr,omitempty"`
	Request string          `json:"request,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
}

// note adds to a batch the entry of a change, and what seals it. before and
// after are public records: no secret and no hash of one is in them.
func (s *Service) note(ctx context.Context, b *Batch, k kept, now time.Time) error {
	k.Org = b.Org
	if o, ok := OriginOf(ctx); ok {
		k.Request, k.Addr = o.clean()
	}
	k.Reason, _ = ctx.Value(reasonKey{}).(string)
	data, err := json.Marshal(&k)
	if err != nil {
		return fmt.Errorf("saccount: audit: %w", err)
	}
	seal, err := s.newestSealer(b.Org)
	if err != nil {
		return err
	}
	b.Audit, b.Seal = append(b.Audit, Entry{At: now, Data: data}), seal.seal
	return nil
}

// noteChange is note of a change of a record.
func (s *Service) noteChange(ctx context.Context, b *Batch, by Actor, action string, before, after *node, now time.Time) (err error) {
	k := kept{Actor: by, Action: action, Subject: after.subject()}
	if before != nil {
		if k.Before, err = before.public(now); err != nil {
			return err
		}
	}
	if k.After, err = after.public(now); err != nil {
		return err
	}
	return s.note(ctx, b, k, now)
}

func (n *node) public(now time.Time) (json.RawMessage, error) {
	var v any
	switch n.Kind {
	case KindOrg:
		v = n.org()
	case KindAccount:
		v = n.account()
	case KindMember:
		v = n.member()
	case KindManagementKey:
		v = n.managementKey(now)
	default:
		v = n.key(now)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("saccount: audit: %w", err)
	}
	return b, nil
}

func readEntry(org string, e *Entry) (AuditEntry, error) {
	var k kept
	if err := json.Unmarshal(e.Data, &k); err != nil {
		return AuditEntry{}, fmt.Errorf("saccount: audit entry %d of %q: %w: %w", e.Seq, org, quota.ErrCorrupt, err)
	}
	return AuditEntry{
		Org: org, Seq: e.Seq, At: e.At, Mark: e.Mark, Actor: k.Actor, Action: k.Action, Subject: k.Subject,
		Addr: k.Addr, Request: k.Request, Reason: k.Reason, Before: k.Before, After: k.After,
	}, nil
}

// AuditFilter narrows a reading of the audit log. The zero AuditFilter lets
// everything through, the oldest first, DefaultPage entries a page.
type AuditFilter struct {
	Actor   Actor         // exactly; empty: all
	Action  string        // exactly; empty: all
	Subject quota.Subject // exactly; empty: all
	From    time.Time     // entries at or after; zero: from the first
	To      time.Time     // entries before; zero: to the last
	Newest  bool          // the newest first
	Limit   int           // of a page, 1 to MaxPage; 0 is DefaultPage
	Cursor  string        // Page.Next of the page before
}

func (f *AuditFilter) match(e *AuditEntry) bool {
	return (f.Actor == "" || f.Actor == e.Actor) && (f.Action == "" || f.Action == e.Action) &&
		(f.Subject == "" || f.Subject == e.Subject) &&
		(f.From.IsZero() || !e.At.Before(f.From)) && (f.To.IsZero() || e.At.Before(f.To))
}

// maxScan bounds how many entries one page looks at.
const maxScan = 10 * MaxPage

// Audit lists entries of an organization's audit log; also those of a deleted
// organization. One call looks at up to 10,000 entries: a page of a rare thing
// may hold fewer than Limit, or none, and Next says whether the log goes on.
// Errors: ErrInvalid, quota.ErrCorrupt, and the store's.
func (s *Service) Audit(ctx context.Context, org string, f AuditFilter) (p Page[AuditEntry], err error) {
	if err := s.begin("audit"); err != nil {
		return p, err
	}
	if f.Limit == 0 {
		f.Limit = DefaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return p, fmt.Errorf("saccount: audit: %w page of %d: give 1 to %d", ErrInvalid, f.Limit, MaxPage)
	}
	cut, head, err := s.store.AuditEnds(ctx, org)
	if err != nil {
		return p, fmt.Errorf("saccount: audit: %w", err)
	}
	at := cut.Through // the last that was looked at
	if f.Newest {
		at = head.Seq + 1
	}
	if f.Cursor != "" {
		n, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil || n < 0 {
			return p, fmt.Errorf("saccount: audit: %w cursor %.40q: give Next of the page before", ErrInvalid, f.Cursor)
		}
		if at = max(n, cut.Through); f.Newest {
			at = min(n, head.Seq+1)
		}
	}
	p.Items = []AuditEntry{}
	for scanned := 0; scanned < maxScan; {
		want := min(MaxPage, max(f.Limit, 100))
		after, most := at, want
		if f.Newest {
			after = max(at-1-int64(want), cut.Through)
			most = int(at - 1 - after)
		}
		if most <= 0 {
			return p, nil
		}
		es, err := s.store.Audit(ctx, org, after, most)
		if err != nil {
			return p, fmt.Errorf("saccount: audit: %w", err)
		}
		if len(es) == 0 && !f.Newest {
			return p, nil
		}
		for i := range es {
			e := &es[i]
			if f.Newest {
				e = &es[len(es)-1-i]
			}
			if f.Newest && e.Seq >= at {
				continue // what was there is not there any more
			}
			a, err := readEntry(org, e)
			if err != nil {
				return p, err
			}
			at = e.Seq
			if !f.match(&a) {
				continue
			}
			if p.Items = append(p.Items, a); len(p.Items) == f.Limit {
				if f.Newest && at > cut.Through+1 || !f.Newest && at < head.Seq {
					p.Next = strconv.FormatInt(at, 10)
				}
				return p, nil
			}
		}
		if scanned += most; f.Newest {
			at = after + 1
		}
	}
	p.Next = strconv.FormatInt(at, 10)
	return p, nil
}

// AuditEntries iterates over Audit. An error ends it.
func (s *Service) AuditEntries(ctx context.Context, org string, f AuditFilter) iter.Seq2[AuditEntry, error] {
	return func(yield func(AuditEntry, error) bool) {
		for {
			p, err := s.Audit(ctx, org, f)
			if err != nil {
				yield(AuditEntry{}, err)
				return
			}
			for _, e := range p.Items {
				if !yield(e, nil) {
					return
				}
			}
			if f.Cursor = p.Next; p.Next == "" {
				return
			}
		}
	}
}
