package saccount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// ErrDone is wrapped where a Guard's Request was done before: see Service.Done.
var ErrDone = errors.New("done before")

// Guard makes one management call conditional. It goes with the context
// (WithGuard) of that one call and no other.
type Guard struct {
	// Revision, where not zero, is the one that the record was read at: where it
	// has moved on, the call fails with ErrConflict. An Update has one of its own.
	Revision int64
	// Request, where it has an ID, is remembered with what the call did, in the
	// same atomic step, for as long as operations' ids are: the same call again
	// does nothing and fails with ErrDone, in every process, whenever it comes.
	// A call that fails is not remembered.
	Request Request
}

// Request is a request to change something, as a client may send it twice.
type Request struct {
	// ID is unique in the organization: 1 to 128 bytes without spaces around
	// them. It says who asks, too, where several do.
	ID string
	// Mark says what was asked for, so that the same ID for something else is
	// noticed by who compares: up to 256 bytes.
	Mark string
}

// Done is what a Request did.
type Done struct {
	Mark    string        `json:"mark,omitempty"`
	Subject quota.Subject `json:"subject"` // "account:sa_...", "management_key:...", "recipient:rcp_..."
	At      time.Time     `json:"at"`
}

const maxMark = 256

type guardKey struct{}

// WithGuard is a context whose next management call is guarded.
func WithGuard(ctx context.Context, g Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

type doneKey struct{}

// doneAs is a context whose Request is remembered with another subject than the
// record that is changed: with what lies in it.
func doneAs(ctx context.Context, subject quota.Subject) context.Context {
	return context.WithValue(ctx, doneKey{}, subject)
}

func guardOf(ctx context.Context) Guard {
	g, _ := ctx.Value(guardKey{}).(Guard)
	return g
}

// Done says what a Request did in an organization, or, of requests that make
// organizations, in HostPartition. ErrNotFound where it was not done, or is
// not remembered any more.
func (s *Service) Done(ctx context.Context, org, id string) (Done, error) {
	if err := s.begin("done"); err != nil {
		return Done{}, err
	}
	d, _, err := s.done(ctx, org, id, s.now())
	if err != nil {
		return Done{}, fmt.Errorf("saccount: done: %w", err)
	}
	return d, nil
}

// done also gives the revision of a request that is over and still stored.
func (s *Service) done(ctx context.Context, org, id string, now time.Time) (d Done, over int64, err error) {
	l, err := s.lookup(ctx, org, KindRequest, id)
	if err != nil {
		return d, 0, err
	}
	if !now.Before(l.Record.Expires) {
		return d, l.Record.Revision, fmt.Errorf("request: %w", ErrNotFound)
	}
	if err := json.Unmarshal(l.Record.Data, &d); err != nil {
		return d, 0, fmt.Errorf("request %q: %w: %w", id, quota.ErrCorrupt, err)
	}
	return d, 0, nil
}

// remember adds the context's Request to a batch. ErrDone where it was done.
func (s *Service) remember(ctx context.Context, b *Batch, subject quota.Subject) error {
	r := guardOf(ctx).Request
	if r.ID == "" {
		return nil
	}
	if other, ok := ctx.Value(doneKey{}).(quota.Subject); ok {
		subject = other
	}
	if err := checkID("request id", r.ID); err != nil {
		return err
	}
	if len(r.Mark) > maxMark {
		return invalidf("request: a mark of %d bytes; at most %d", len(r.Mark), maxMark)
	}
	_, over, err := s.done(ctx, b.Org, r.ID, b.At)
	switch {
	case err == nil:
		return fmt.Errorf("request: %w", ErrDone)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	data, err := json.Marshal(Done{r.Mark, subject, b.At})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	b.Changes = append(b.Changes, Change{Quiet: true, Record: Record{
		Kind: KindRequest, Org: b.Org, ID: r.ID, Parent: b.Org, Created: b.At, Expires: Micro(b.At.Add(s.keep())), Data: data, Revision: over,
	}})
	return nil
}

// write is Store.Write, which tells a request that another did meanwhile from
// other conflicts.
func (s *Service) write(ctx context.Context, b Batch) error {
	err := s.store.Write(ctx, b)
	r := guardOf(ctx).Request
	if r.ID == "" || !errors.Is(err, ErrExists) && !errors.Is(err, ErrConflict) {
		return err
	}
	if _, _, e := s.done(ctx, b.Org, r.ID, b.At); e == nil {
		return fmt.Errorf("request: %w", ErrDone)
	}
	return err
}
