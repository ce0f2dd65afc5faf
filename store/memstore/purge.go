package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Fold implements usage.Store.
func (s *Store) Fold(ctx context.Context, id string, days []int64, most int) (folded int, err error) {
	if err := s.begin(ctx, "fold"); err != nil {
		return 0, err
	}
	if len(days) < 2 || !slices.IsSorted(days) || most < 1 {
		return 0, fmt.Errorf("memstore: fold: %w days: give at least two ascending instants and a bound of at least 1", saccount.ErrInvalid)
	}
	o := s.known(id)
	if o == nil {
		return 0, nil
	}
	o.Lock()
	defer o.Unlock()
	var subjects []quota.Subject
	o.Book.Subjects(func(s quota.Subject) bool { subjects = append(subjects, s); return true })
	for _, sub := range subjects {
		var names []string
		o.Book.Series(sub, func(n string) {
			if !strings.HasPrefix(n, quota.SeriesFolded) {
				names = append(names, n)
			}
		})
		for _, name := range names {
			for d := 0; d+1 < len(days); d++ {
				if folded >= most {
					return folded, nil
				}
				folded += o.foldDay(sub, name, days[d], days[d+1])
			}
		}
	}
	return folded, nil
}

// foldDay merges one series of a subject in [from, to) into one bucket. A day in
// which something is still held stays as it is until that is settled.
func (o *org) foldDay(sub quota.Subject, name string, from, to int64) (n int) {
	var starts []int64
	var sum quota.Counter
	add := func(c *quota.Counter) { sum.Used += c.Used; sum.Held += c.Held; sum.Requests += c.Requests }
	_ = o.Book.Usage(sub, name, from, to, func(start int64, c *quota.Counter) { // a Book without a Loader never fails
		starts = append(starts, start)
		add(c)
	})
	if len(starts) == 0 || sum.Held != 0 {
		return 0
	}
	day := quota.CounterID{Subject: sub, Series: quota.SeriesFolded + name, Start: from}
	_ = o.Book.Usage(sub, day.Series, from, from+1, func(_ int64, c *quota.Counter) { add(c) })
	o.Book.Restore(day, sum, false)
	for _, start := range starts {
		o.Book.Remove(quota.CounterID{Subject: sub, Series: name, Start: start})
	}
	return len(starts)
}

// Purge implements saccount.Store. A window in which something is still held
// stays until that is settled.
func (s *Store) Purge(ctx context.Context, p saccount.Purge) (dropped int, err error) {
	if err := s.begin(ctx, "purge"); err != nil {
		return 0, err
	}
	if p.Most < 1 {
		return 0, fmt.Errorf("memstore: purge: %w bound: at least 1", saccount.ErrInvalid)
	}
	s.orgs.Range(func(_, x any) bool {
		o := x.(*org)
		o.Lock()
		defer o.Unlock()
		var ids, requests []string
		var windows []quota.CounterID
		o.Book.Receipts(func(r *quota.Receipt) {
			if !p.Receipts.IsZero() && !r.Held() && r.Keep <= p.Receipts.UnixMicro() {
				ids = append(ids, r.ID)
			}
		})
		for id, r := range o.kinds[saccount.KindRequest].byID {
			if !p.Receipts.IsZero() && !r.Expires.After(p.Receipts) {
				requests = append(requests, id)
			}
		}
		o.Book.Counters(func(id quota.CounterID, c quota.Counter) {
			if !p.Windows.IsZero() && id.Number != 0 && c.End != 0 && c.End <= p.Windows.UnixMicro() && c.Held == 0 {
				windows = append(windows, id)
			}
		})
		for _, id := range ids[:min(len(ids), p.Most-dropped)] {
			o.Book.ForgetReceipt(id)
			dropped++
		}
		for _, id := range requests[:min(len(requests), p.Most-dropped)] {
			o.kinds[saccount.KindRequest].drop(id)
			dropped++
		}
		for _, id := range windows[:min(len(windows), p.Most-dropped)] {
			o.Book.Remove(id)
			dropped++
		}
		for id, keep := range o.posts {
			if !p.Posts.IsZero() && keep <= p.Posts.UnixMicro() && dropped < p.Most {
				delete(o.posts, id)
				dropped++
			}
		}
		return dropped < p.Most
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for !p.Alerts.IsZero() && dropped < p.Most && len(s.outbox) > 0 && s.outbox[0].At < p.Alerts.UnixMicro() {
		s.alerts.drop(s.outbox[0].Seq)
		s.outbox = s.outbox[1:]
		dropped++
	}
	return dropped, nil
}
