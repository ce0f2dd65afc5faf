package saccount

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// sweepTurn is the name of the turn that one process of many has.
const sweepTurn = "alerts"

// sweeps looks for what the rules alert of and drops what is over, whenever this
// process has the turn.
func (a *alerts) sweeps(ctx context.Context) {
	tick := time.NewTicker(min(a.rules.Every, time.Minute))
	defer tick.Stop()
	for {
		now := a.service.now()
		ok, err := a.service.store.Turn(ctx, sweepTurn, now.UnixMicro(), now.Add(a.rules.Every).UnixMicro())
		if ok {
			err = a.sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			a.service.log.Warn("keypurse: looking for alerts failed; it is tried again", "error", err)
		}
		if ok {
			if _, err := a.service.Sweep(ctx, 0); err != nil && ctx.Err() == nil {
				a.service.log.Warn("keypurse: what is over could not be dropped; it is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// SweepAlerts looks for everything that the rules alert of, now: for tests, and
// for hosts that are called by a timer of their own instead of running Watch.
// What was alerted already is passed over. Errors: ErrClosed and the store's.
func (s *Service) SweepAlerts(ctx context.Context) error {
	if !s.alerts.begin() {
		return fmt.Errorf("saccount: sweep alerts: %w", ErrClosed)
	}
	defer s.alerts.running.Done()
	if err := s.alerts.sweep(ctx); err != nil {
		return fmt.Errorf("saccount: sweep alerts: %w", err)
	}
	return nil
}

// sweep goes over all organizations. One that fails does not keep the others.
func (a *alerts) sweep(ctx context.Context) error {
	now := Micro(a.service.now())
	if _, err := a.service.purge(ctx, Purge{Posts: now}); err != nil { // quiet times that are over end now
		return err
	}
	var failed error
	err := a.each(ctx, ListQuery{Kind: KindOrg}, func(n *node) error {
		if n.Disabled {
			return nil
		}
		err := a.service.enforceAll(ctx, n, now, nil)
		if err == nil {
			err = a.sweepOrg(ctx, n, now)
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = errors.Join(failed, fmt.Errorf("organization %q: %w", n.ID, err))
		}
		return nil
	})
	return errors.Join(err, failed)
}

// each calls fn for every living record of a list.
func (a *alerts) each(ctx context.Context, q ListQuery, fn func(*node) error) error {
	q.Limit, q.Now = MaxPage, a.service.now()
	for {
		page, more, err := a.service.store.List(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			n, err := readNode(page[i])
			if err != nil {
				return err
			}
			if err := fn(n); err != nil {
				return err
			}
			q.After = q.Cursor(&page[i])
		}
		if !more {
			return nil
		}
	}
}

// finder gathers what is found in one organization and posts it.
type finder struct {
	*alerts
	ctx   context.Context
	org   string
	now   time.Time
	posts []alert.Post
	ask   []*node // with limits, whose pace is to be read
}

func (a *alerts) sweepOrg(ctx context.Context, org *node, now time.Time) error {
	f := &finder{alerts: a, ctx: ctx, org: org.ID, now: now}
	if err := f.limited(org); err != nil {
		return err
	}
	active, policy := map[string]bool{}, org.policy()
	err := a.each(ctx, ListQuery{Kind: KindAccount, Org: org.ID, Statuses: []Status{StatusActive}}, func(n *node) error {
		active[n.ID] = true
		return f.limited(n)
	})
	if err != nil {
		return err
	}
	if a.rules.RunOut {
		if err := a.each(ctx, ListQuery{Kind: KindMember, Org: org.ID, Statuses: []Status{StatusActive}}, f.limited); err != nil {
			return err
		}
	}
	if r := &a.rules; r.RunOut || len(r.Expiring) > 0 || r.Unused > 0 || r.Rotation > 0 {
		err = a.each(ctx, ListQuery{Kind: KindKey, Org: org.ID, Statuses: []Status{StatusActive}}, func(n *node) error {
			if !active[n.Parent] {
				return nil
			}
			posts, err := r.ofKey(n, policy, now)
			if err != nil {
				return err
			}
			if err := f.found(posts...); err != nil {
				return err
			}
			return f.limited(n)
		})
		if err != nil {
			return err
		}
	}
	if err := f.runOuts(); err != nil {
		return err
	}
	if a.rules.Unusual {
		if err := f.unusual(active); err != nil {
			return err
		}
	}
	return f.flush()
}

// found posts, some at once.
func (f *finder) found(posts ...alert.Post) error {
	f.posts = append(f.posts, posts...)
	if len(f.posts) < 200 {
		return nil
	}
	return f.flush()
}

func (f *finder) flush() error {
	if len(f.posts) == 0 {
		return nil
	}
	err := f.service.store.Write(f.ctx, Batch{Org: f.org, At: f.now, Alerts: f.posts})
	f.posts = nil
	return err
}

// limited takes a subject whose limits may run out.
func (f *finder) limited(n *node) error {
	if !f.rules.RunOut || len(n.Limits) == 0 {
		return nil
	}
	f.ask = append(f.ask, n)
	if len(f.ask) < MaxPage {
		return nil
	}
	return f.runOuts()
}

const (
	runOutWindow = 2 * 24 * time.Hour // windows shorter than this are not projected
	runOutAhead  = 7 * 24 * time.Hour // how far ahead, of limits that never reset
)

// runOuts projects the limits of the subjects that were taken.
func (f *finder) runOuts() error {
	ask := f.ask
	f.ask = nil
	if len(ask) == 0 {
		return nil
	}
	subjects := make([]quota.Subject, len(ask))
	for i, n := range ask {
		subjects[i] = n.subject()
	}
	paces, err := usage.Paces(f.ctx, f.service.store, f.org, subjects, f.now)
	if err != nil {
		return err
	}
	for i, n := range ask {
		if paces[i].Day.Credits == 0 {
			continue
		}
		st, err := f.service.StatusOf(f.ctx, f.org, n.Kind, n.ID)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		for j := range st {
			if err := f.runOut(n, &st[j], paces[i].Since(n.Created)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *finder) runOut(n *node, st *quota.LimitStatus, pace usage.Pace) error {
	if st.Remaining == 0 || !st.ResetAt.IsZero() && (st.ResetAt.Sub(st.Start) < runOutWindow || !f.now.Before(st.ResetAt) || f.now.Before(st.Start)) {
		return nil // what is spent already has alerted
	}
	p, err := usage.Project(*st, pace)
	if err != nil {
		return err
	}
	if !p.Known || p.ByDay.IsZero() || p.ByWeek.IsZero() || p.RunsOut.IsZero() || st.ResetAt.IsZero() && p.RunsOut.Sub(f.now) > runOutAhead {
		return nil
	}
	episode, keep := st.Limit+" "+st.Start.Format(time.RFC3339), st.ResetAt.Add(ruleDay)
	if st.ResetAt.IsZero() {
		episode, keep = st.Limit+" of "+st.Max.String(), f.now.Add(episodeKept)
	}
	post, err := alert.New(alert.KindRunOut, n.subject(), episode, f.now, keep, map[string]string{alert.FigureTime: p.RunsOut.Format(time.RFC3339)})
	if err != nil {
		return err
	}
	a := &post.Alert
	a.Limit, a.Max, a.Used, a.Overage = st.Limit, st.Max, st.Used, st.Overage
	if !st.ResetAt.IsZero() {
		a.Start, a.End = st.Start.UnixMicro(), st.ResetAt.UnixMicro()
	}
	return f.found(post)
}

// unusual compares each account's last whole hour with those before.
func (f *finder) unusual(active map[string]bool) error {
	const hour = int64(time.Hour / time.Microsecond)
	to := quota.Micros(f.now.Truncate(time.Hour))
	from := to - (alert.PatternHours+1)*hour
	// First only what the hour and all before it come to, of all accounts: what
	// is below its share of a day is not looked at further.
	type sums struct{ hour, before quota.Credits }
	of := map[quota.Subject]*sums{}
	all := usage.Range{Org: f.org, Kind: quota.KindAccount, From: from, To: to, Edges: []int64{from, to - hour, to}}
	err := f.service.store.Usage(f.ctx, all, func(r usage.Row) error {
		s := of[r.Subject]
		if s == nil {
			s = &sums{}
			of[r.Subject] = s
		}
		if r.Start >= to-hour {
			s.hour += r.Credits
		} else {
			s.before += r.Credits
		}
		return nil
	})
	if err != nil {
		return err
	}
	var ask []quota.Subject
	for sub, s := range of {
		if active[sub.ID()] && s.hour > 0 && s.before > 0 && s.hour >= s.before/(alert.PatternHours/24+1)/alert.PatternShare {
			ask = append(ask, sub)
		}
	}
	edges := make([]int64, 0, alert.PatternHours+2)
	for at := from; at <= to; at += hour {
		edges = append(edges, at)
	}
	for len(ask) > 0 {
		some := ask[:min(len(ask), 100)]
		ask = ask[len(some):]
		hours := map[quota.Subject][]quota.Credits{}
		for _, sub := range some {
			hours[sub] = make([]quota.Credits, alert.PatternHours+1)
		}
		err := f.service.store.Usage(f.ctx, usage.Range{Org: f.org, Subjects: some, From: from, To: to, Edges: edges}, func(r usage.Row) error {
			hours[r.Subject][(r.Start-from)/hour] += r.Credits
			return nil
		})
		if err != nil {
			return err
		}
		for _, sub := range some {
			h := hours[sub]
			usual, is := alert.Unusual(h)
			if !is {
				continue
			}
			post, err := alert.New(alert.KindUnusualSpend, sub, "quiet", f.now, f.now.Add(alert.PatternQuiet*time.Hour), map[string]string{
				alert.FigureSpent: h[len(h)-1].String(), alert.FigureUsual: usual.String(), alert.FigureTime: quota.Time(to).Format(time.RFC3339), "hours": strconv.Itoa(1),
			})
			if err != nil {
				return err
			}
			if err := f.found(post); err != nil {
				return err
			}
		}
	}
	return nil
}
