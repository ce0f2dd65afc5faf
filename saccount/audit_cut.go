package saccount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// CutAudit says what to drop from the front of an audit log.
type CutAudit struct {
	Before  time.Time // entries from before this instant, up to the first that is not
	Unkeyed bool      // see Verify
	// Broken drops also what does not verify; the breach is then gone with it.
	Broken bool
}

// CutAudit drops old entries of an organization's audit log and says how many:
// what is kept of them is the number and the mark of the last, sealed, from
// which Verify starts. The call is itself audited, as "cut_audit". It works in
// steps of up to 1,000 entries, each whole; an error leaves the steps before it
// done. Export first what must be kept. Errors: ErrInvalid, ErrNotFound,
// ErrTampered where what is to be dropped does not verify, and the store's.
func (s *Service) CutAudit(ctx context.Context, by Actor, org string, c CutAudit) (dropped int64, err error) {
	if err := s.begin("cut audit"); err != nil {
		return 0, err
	}
	if err := checkActor(by); err != nil {
		return 0, fmt.Errorf("saccount: cut audit: %w", err)
	}
	if c.Before.IsZero() {
		return 0, fmt.Errorf("saccount: cut audit: %w Before: give an instant", ErrInvalid)
	}
	if org != HostPartition {
		if _, err := s.lookup(ctx, org, KindOrg, org); err != nil {
			return 0, fmt.Errorf("saccount: cut audit: %w", err)
		}
	}
	for tries := 0; ; {
		step, err := s.cutStep(ctx, by, org, c, dropped == 0)
		switch {
		case errors.Is(err, ErrConflict) && tries < maxTries:
			tries++ // another cut came first
		case err != nil:
			return dropped, fmt.Errorf("saccount: cut audit: %w", err)
		case step == 0:
			return dropped, nil
		default:
			dropped += step
		}
	}
}

func (s *Service) cutStep(ctx context.Context, by Actor, org string, c CutAudit, first bool) (int64, error) {
	cut, _, err := s.store.AuditEnds(ctx, org)
	if err != nil {
		return 0, err
	}
	es, err := s.store.Audit(ctx, org, cut.Through, MaxPage)
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(es) && es[n].At.Before(c.Before) {
		n++
	}
	if n == 0 {
		return 0, nil
	}
	last := &es[n-1]
	if !c.Broken {
		v, err := s.verify(ctx, org, Verify{Unkeyed: c.Unkeyed}, last.Seq)
		if err != nil {
			return 0, err
		}
		if v.Bad != nil {
			return 0, fmt.Errorf("%w: %s: %s; look into it, and set Broken to drop it", ErrTampered, v.Bad.Kind, v.Bad.Detail)
		}
	}
	k, err := s.newestSealer(org)
	if err != nil {
		return 0, err
	}
	now := Micro(s.now())
	next := k.cut(last.Seq, last.Mark)
	b := Batch{Org: org, At: now, Cut: &next}
	if first {
		after, err := json.Marshal(struct {
			From   int64     `json:"from"`
			Before time.Time `json:"before"`
		}{es[0].Seq, Micro(c.Before)})
		if err != nil {
			return 0, err
		}
		if err := s.note(ctx, &b, kept{Actor: by, Action: "cut_audit", Subject: quota.NewSubject(quota.KindOrg, org), After: after}, now); err != nil {
			return 0, err
		}
	}
	return int64(n), s.store.Write(ctx, b)
}
