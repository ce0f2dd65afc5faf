package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

// aboutRows is how many rows of usage are read at once, of at most maxSubjects
// subjects; those of up to fewSubjects page by page.
const (
	aboutRows   = 1 << 17
	maxSubjects = 1 << 12
	fewSubjects = 64
	quarter     = 15 * 60 * 1_000_000
)

// Usage implements usage.Store: some subjects at a time, so that memory stays
// bounded and no connection waits for fn. Where the range has edges the server
// folds, so that 10,000 subjects by day are a few questions and not as many
// rows as there are buckets.
func (s *Store) Usage(ctx context.Context, r usage.Range, fn func(usage.Row) error) error {
	ctx, end, err := s.enter(ctx, "usage")
	if err != nil {
		return err
	}
	defer end()
	if err := r.Check(); err != nil {
		return fmt.Errorf("pgstore: %w", err)
	}
	if checkText("organization", r.Org) != nil || r.From >= r.To {
		return nil
	}
	rows := max(0, r.To-r.From) / quarter
	if r.Edges != nil {
		rows = min(rows, int64(len(r.Edges)))
	}
	each := int(max(1, min(maxSubjects, aboutRows/(1+rows))))
	if r.Kind != "" {
		return s.usageOfKind(ctx, &r, each, fn)
	}
	var subjects []quota.Subject
	for _, sub := range r.Subjects {
		if checkText("subject", string(sub)) == nil {
			subjects = append(subjects, sub)
		}
	}
	for part := range slices.Chunk(subjects, each) {
		if err := s.usageOf(ctx, &r, part, fn); err != nil {
			return err
		}
	}
	return nil
}

// usageOfKind finds the subjects of a kind, some at a time.
func (s *Store) usageOfKind(ctx context.Context, r *usage.Range, each int, fn func(usage.Row) error) error {
	from, to := r.Kind+":", r.Kind+";" // the byte behind the colon
	for {
		var part []quota.Subject
		err := s.read(ctx, "usage", func() error {
			var got []quota.Subject
			err := s.each(ctx, s.db.DB, nil, s.sql.subjects, []any{r.Org, from, to, each}, func(rows *sql.Rows) error {
				var sub quota.Subject
				err := rows.Scan(&sub)
				got = append(got, sub)
				return err
			})
			if err == nil {
				part = got
			}
			return err
		})
		if err != nil || len(part) == 0 {
			return err
		}
		if err := s.usageOf(ctx, r, part, fn); err != nil || len(part) < each {
			return err
		}
		from = string(part[len(part)-1])
	}
}

// usageText asks for the usage of some subjects; planned is whether Postgres is
// to plan for these, since how many there are decides how their sums are made.
func (s *Store) usageText(r *usage.Range, part []quota.Subject) (text string, args []any, planned bool) {
	list := func(part []quota.Subject) string {
		var sub texts
		for _, x := range part {
			sub.add(string(x))
		}
		return sub.String()
	}
	if r.Edges == nil {
		return s.sql.usage, []any{r.Org, list(part), r.From, r.To}, false
	}
	var edges ints
	for _, at := range r.Edges {
		edges.add(at)
	}
	if len(part) == 1 || len(part) > fewSubjects {
		return s.sql.usageFolded, []any{r.Org, list(part), r.From, r.To, edges.String()}, false
	}
	half := len(part) / 2
	return s.sql.usageTogether, []any{r.Org, list(part[:half]), r.From, r.To, edges.String(), list(part[half:]), r.Org}, true
}

// usageOf reads some subjects in one question.
func (s *Store) usageOf(ctx context.Context, r *usage.Range, part []quota.Subject, fn func(usage.Row) error) error {
	text, args, planned := s.usageText(r, part)
	each := func(scan func(*sql.Rows) error) error { return s.each(ctx, s.db.DB, nil, text, args, scan) }
	if planned {
		each = func(scan func(*sql.Rows) error) error { return s.eachUnprepared(ctx, text, args, scan) }
	}
	rows := map[quota.Subject][]usage.Row{}
	err := s.read(ctx, "usage", func() error {
		got := map[quota.Subject][]usage.Row{}
		err := each(func(rows *sql.Rows) error {
			var u usage.Row
			var series, credits, requests string // sums may be longer than int64
			err := rows.Scan(&u.Subject, &series, &u.Start, &credits, &requests)
			if err != nil {
				return err
			}
			n, err := strconv.ParseInt(credits, 10, 64)
			if u.Credits = quota.Credits(n); err == nil {
				u.Requests, err = strconv.ParseInt(requests, 10, 64)
			}
			if err != nil {
				return fmt.Errorf("sum of %s: %w", u.Subject, quota.ErrOverflow)
			}
			u.Day, u.Reason = usage.ParseSeries(series)
			got[u.Subject] = append(got[u.Subject], u)
			return nil
		})
		if err == nil {
			rows = got
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range part {
		for _, u := range rows[x] {
			if err := fn(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// Fold implements usage.Store, as one transaction a call under the
// organization's lock. A day with a bucket in which something is still held is
// left as it is: it is folded when that is settled.
func (s *Store) Fold(ctx context.Context, org string, days []int64, most int) (folded int, err error) {
	ctx, end, err := s.enter(ctx, "fold")
	if err != nil {
		return 0, err
	}
	defer end()
	if len(days) < 2 || !slices.IsSorted(days) || most < 1 {
		return 0, fmt.Errorf("pgstore: fold: %w days: give at least two ascending instants and a bound of at least 1", saccount.ErrInvalid)
	}
	if err := checkText("organization", org); err != nil {
		return 0, fmt.Errorf("pgstore: fold: %w", err)
	}
	err = s.read(ctx, "fold", func() error {
		folded, err = s.foldOnce(ctx, org, days, most)
		return err
	})
	s.forget(org)
	return folded, err
}

type foldRow struct {
	sub      quota.Subject
	series   string
	start    int64
	used     quota.Credits
	held     quota.Credits
	requests int64
}

// fold is one series of a subject on one day.
type fold struct {
	sub    quota.Subject
	series string
	day    int64
	held   bool
	bad    bool // a sum would leave int64
	sum    quota.Counter
	starts []int64
}

func (s *Store) foldOnce(ctx context.Context, org string, days []int64, most int) (folded int, err error) {
	carried, err := s.carried(ctx, org, days, most)
	if err != nil {
		return 0, err
	}
	t, err := s.tx(ctx, readCommitted)
	if err != nil {
		return 0, err
	}
	done := false
	defer func() {
		if !done {
			t.end(ctx, err)
		}
	}()
	rd := reader{ctx, t.Tx, t.undo}
	if err := s.lockOrg(rd, s.newBook(org)); err != nil {
		if errors.Is(err, quota.ErrCorrupt) {
			err = nil // there is no such organization
		}
		return 0, err
	}
	if len(carried) > 0 {
		if _, err := t.exec(ctx, s.sql.setDown, carried...); err != nil {
			return 0, err
		}
	}
	folds, err := s.foldable(rd, org, days, most)
	if err != nil || len(folds) == 0 {
		return 0, err
	}
	n, err := s.putFolds(ctx, t, rd, org, folds)
	if err != nil || n == 0 {
		return 0, err
	}
	done = true
	if err := t.commit(ctx); err != nil {
		return 0, err
	}
	return n, nil
}

// carried finds buckets of the days that are beside a limit, since nothing was
// charged after them: as arguments of the statement that gives them rows of their
// own; none where there are none. They are looked for without a lock.
func (s *Store) carried(ctx context.Context, org string, days []int64, most int) ([]any, error) {
	var sub, series texts
	var number, start ints
	from, to := days[0], days[len(days)-1]
	err := s.each(ctx, s.db.DB, nil, s.sql.carried, []any{org, from, to, most}, func(rows *sql.Rows) error {
		var id quota.CounterID
		err := rows.Scan(&id.Subject, &id.Number, &id.Series, &id.Start)
		sub.add(string(id.Subject))
		number.add(int64(id.Number))
		series.add(id.Series)
		start.add(id.Start)
		return err
	})
	if err != nil || len(sub.b) == 0 {
		return nil, err
	}
	return []any{org, sub.String(), number.String(), series.String(), start.String(), from, to}, nil
}

// foldable finds about as many buckets as may be folded, whole days of them.
func (s *Store) foldable(rd reader, org string, days []int64, most int) (out []*fold, err error) {
	const page = 4096
	n := 0
	from := foldRow{start: -never}
	first := true
	var last *fold
	take := func() {
		if last != nil && !last.held {
			out = append(out, last)
			n += len(last.starts)
		}
		last = nil
	}
	for {
		var got []foldRow
		args := []any{org, days[0], days[len(days)-1], string(from.sub), from.series, from.start, page}
		if first {
			args[3], args[4] = "", ""
		}
		first = false
		err := rd.each(s, s.sql.foldable, args, func(rows *sql.Rows) error {
			var f foldRow
			err := rows.Scan(&f.sub, &f.series, &f.start, &f.used, &f.held, &f.requests)
			got = append(got, f)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			i, ok := slices.BinarySearch(days, r.start)
			if !ok {
				i--
			}
			if last == nil || last.sub != r.sub || last.series != r.series || last.day != days[i] {
				if take(); n >= most {
					return out, nil
				}
				last = &fold{sub: r.sub, series: r.series, day: days[i]}
			}
			last.add(quota.Counter{Used: r.used, Requests: r.requests})
			last.held = last.held || r.held != 0
			last.starts = append(last.starts, r.start)
		}
		if len(got) < page {
			take()
			return out, nil
		}
		from = got[len(got)-1]
	}
}

func (f *fold) add(c quota.Counter) {
	f.sum.Used += c.Used
	f.sum.Requests += c.Requests
	f.bad = f.bad || f.sum.Used < 0 || f.sum.Requests < 0
}

func (s *Store) putFolds(ctx context.Context, t *tx, rd reader, org string, folds []*fold) (n int, err error) {
	// What was folded there before is added to.
	b := s.newBook(org)
	ids := make([]quota.CounterID, len(folds))
	for i, f := range folds {
		ids[i] = quota.CounterID{Subject: f.sub, Series: quota.SeriesFolded + f.series, Start: f.day}
	}
	if err := s.readCounters(rd, []*book{b}, [][]quota.CounterID{ids}); err != nil {
		return 0, err
	}
	var sub, series texts
	var start ints
	var daySub, daySeries texts
	var dayStart, used, requests ints
	for i, f := range folds {
		if c := b.view.counters[ids[i]]; c != nil {
			f.add(*c)
		}
		if f.bad {
			continue
		}
		for _, at := range f.starts {
			sub.add(string(f.sub))
			series.add(f.series)
			start.add(at)
		}
		n += len(f.starts)
		daySub.add(string(f.sub))
		daySeries.add(ids[i].Series)
		dayStart.add(f.day)
		used.add(int64(f.sum.Used))
		requests.add(f.sum.Requests)
	}
	if n == 0 {
		return 0, nil
	}
	if _, err := t.exec(ctx, s.sql.dropBuckets, org, sub.String(), series.String(), start.String()); err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, s.sql.putDays, org, daySub.String(), daySeries.String(), dayStart.String(), used.String(), requests.String()); err != nil {
		return 0, err
	}
	var orgs texts
	orgs.add(org)
	_, err = t.exec(ctx, s.sql.bump, orgs.String())
	return n, err
}
