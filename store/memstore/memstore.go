// Package memstore keeps everything in memory: for tests, and for hosts whose
// credits may be forgotten when the process ends. It is also the fake for
// users' own tests; see package saccounttest.
//
// One process only, and nothing survives it. Nothing is evicted: what is
// stored takes memory until Purge and Fold drop it.
package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// Store is a store.Store in memory: a lock per organization around a
// quota.Book and maps. Safe for concurrent use.
type Store struct {
	closed atomic.Bool
	orgs   sync.Map // id -> *org
	keys   sync.Map // key id -> *org, for look-ups that know no organization

	writing sync.Mutex // one Write at a time: a key's id is unique in all organizations

	mu     sync.Mutex // guards what follows; taken inside an org's lock
	outbox []quota.Alert
	seq    int64
	alerts alerts
}

type org struct {
	quota.Desk
	id    string
	kinds [saccount.KindRequest + 1]table
	uses  map[string]saccount.Use
	audit []saccount.Entry
	posts map[string]int64 // until when the ids of posted alerts are remembered
	cut   saccount.Cut     // from the front of audit
}

// New makes an empty Store.
func New() *Store { return &Store{} }

// Desk implements quota.Direct.
func (s *Store) Desk(outer quota.Store, id string) *quota.Desk {
	if outer != quota.Store(s) {
		return nil
	}
	return &s.org(id).Desk
}

// Close makes every later call fail with saccount.ErrClosed. Idempotent.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// begin is the first line of every call.
func (s *Store) begin(ctx context.Context, verb string) error {
	if s.closed.Load() {
		return fmt.Errorf("memstore: %s: %w", verb, saccount.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %s: %w", verb, err)
	}
	return nil
}

func (s *Store) org(id string) *org {
	if o, ok := s.orgs.Load(id); ok {
		return o.(*org)
	}
	made := &org{id: id, uses: map[string]saccount.Use{}, posts: map[string]int64{}}
	made.Desk = quota.Desk{Store: s, Closed: &s.closed, Post: s.post, Book: quota.NewBook(id, nil)}
	o, _ := s.orgs.LoadOrStore(id, made)
	return o.(*org)
}

// known is org, without making one.
func (s *Store) known(id string) *org {
	if o, ok := s.orgs.Load(id); ok {
		return o.(*org)
	}
	return nil
}

// Apply implements quota.Store.
func (s *Store) Apply(ctx context.Context, ops []*quota.Op) error {
	if err := s.begin(ctx, "apply"); err != nil {
		return err
	}
	for _, op := range ops {
		o := s.org(op.Org)
		o.Lock()
		o.Book.Apply(op)
		o.Unlock()
	}
	return nil
}

// post puts alerts into the outbox.
func (s *Store) post(alerts []quota.Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range alerts {
		s.seq++
		a.Seq = s.seq
		s.outbox = append(s.outbox, a)
	}
}

// Peek implements quota.Store.
func (s *Store) Peek(ctx context.Context, id string, levels []*quota.Level, at int64) ([]quota.Figure, error) {
	if err := s.begin(ctx, "peek"); err != nil {
		return nil, err
	}
	o := s.org(id)
	o.Lock()
	defer o.Unlock()
	return o.Book.Peek(levels, at)
}

// Stranded implements quota.Store.
func (s *Store) Stranded(ctx context.Context, id string, at int64) ([]*quota.Receipt, error) {
	if err := s.begin(ctx, "stranded"); err != nil {
		return nil, err
	}
	o := s.known(id)
	if o == nil {
		return nil, nil
	}
	o.Lock()
	defer o.Unlock()
	return o.Book.Stranded(at)
}

// Outbox implements quota.Store.
func (s *Store) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	if err := s.begin(ctx, "outbox"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, there := slices.BinarySearchFunc(s.outbox, after, bySeq)
	if there {
		i++
	}
	return slices.Clone(s.outbox[i:min(i+max(n, 0), len(s.outbox))]), nil
}

// Touch implements saccount.Store.
func (s *Store) Touch(ctx context.Context, touches []saccount.Touch) error {
	if err := s.begin(ctx, "touch"); err != nil {
		return err
	}
	for _, t := range touches {
		o := s.known(t.Org)
		if o == nil {
			continue
		}
		o.Lock()
		if (o.kinds[saccount.KindKey].byID[t.Key] != nil || o.kinds[saccount.KindManagementKey].byID[t.Key] != nil) && t.Use.At.After(o.uses[t.Key].At) {
			o.uses[t.Key] = saccount.Use{At: saccount.Micro(t.Use.At), Addr: t.Use.Addr}
		}
		o.Unlock()
	}
	return nil
}

// Usage implements usage.Store.
func (s *Store) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	if err := s.begin(ctx, "usage"); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("memstore: %w", err)
	}
	o := s.known(r.Org)
	if o == nil {
		return nil
	}
	subjects := r.Subjects
	if r.Kind != "" {
		subjects = o.subjects(r.Kind)
	}
	for _, sub := range subjects {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("memstore: usage: %w", err)
		}
		rows, err := o.usage(sub, r.From, r.To)
		if err == nil {
			rows, err = r.Merge(rows)
		}
		if err != nil {
			return fmt.Errorf("memstore: %w", err)
		}
		for _, row := range rows { // outside the lock: fn is the caller's
			if err := fn(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// subjects are those of a kind that have counters.
func (o *org) subjects(kind string) (out []quota.Subject) {
	o.Lock()
	defer o.Unlock()
	o.Book.Subjects(func(sub quota.Subject) bool {
		if sub.Kind() == kind {
			out = append(out, sub)
		}
		return true
	})
	return out
}

func (o *org) usage(sub quota.Subject, from, to int64) (rows []usage.Row, err error) {
	o.Lock()
	defer o.Unlock()
	o.Book.Series(sub, func(series string) {
		day, reason := usage.ParseSeries(series)
		if e := o.Book.Usage(sub, series, from, to, func(start int64, c *quota.Counter) {
			rows = append(rows, usage.Row{Subject: sub, Reason: reason, Day: day, Start: start, Credits: c.Used, Requests: c.Requests})
		}); e != nil {
			err = e
		}
	})
	return rows, err
}
