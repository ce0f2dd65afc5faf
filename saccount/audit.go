package saccount

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// AuditEntry is what the audit log says of one change: written in the same
// atomic step as the change itself; that of a settled block before it.
type AuditEntry struct {
	Seq     int64           `json:"seq"` // from 1 in each organization, without gaps
	At      time.Time       `json:"at"`
	Actor   Actor           `json:"actor"`
	Action  string          `json:"action"`  // "create", "update", "disable", "rotate", ...
	Subject string          `json:"subject"` // "account:sa_..."
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
}

// entry makes the entry of a change. Before and After are the public records:
// no secret and no hash of one is in them.
func (s *Service) entry(_ context.Context, by Actor, action string, before, after *node, now time.Time) (Entry, error) {
	e := AuditEntry{Actor: by, Action: action, Subject: string(after.subject())}
	var err error
	if before != nil {
		if e.Before, err = before.public(now); err != nil {
			return Entry{}, err
		}
	}
	if e.After, err = after.public(now); err != nil {
		return Entry{}, err
	}
	data, err := json.Marshal(&e)
	if err != nil {
		return Entry{}, fmt.Errorf("saccount: audit: %w", err)
	}
	return Entry{At: now, Data: data}, nil
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

// Audit lists up to n entries of an organization's audit log with a Seq above
// after, the oldest first; also those of a deleted organization.
func (s *Service) Audit(ctx context.Context, org string, after int64, n int) ([]AuditEntry, error) {
	if err := s.begin("audit"); err != nil {
		return nil, err
	}
	if n < 1 || n > MaxPage {
		return nil, fmt.Errorf("saccount: audit: %w page of %d: give 1 to %d", ErrInvalid, n, MaxPage)
	}
	es, err := s.store.Audit(ctx, org, after, n)
	if err != nil {
		return nil, fmt.Errorf("saccount: audit: %w", err)
	}
	out := make([]AuditEntry, 0, len(es))
	for _, e := range es {
		a := AuditEntry{}
		if err := json.Unmarshal(e.Data, &a); err != nil {
			return nil, fmt.Errorf("saccount: audit entry %d of %q: %w", e.Seq, org, err)
		}
		a.Seq, a.At = e.Seq, e.At
		out = append(out, a)
	}
	return out, nil
}
