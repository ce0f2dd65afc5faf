package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/saccount"
)

// Purge implements saccount.Store. A window in which something is still held
// stays until that is settled. Besides, it drops what is known of batches that
// were committed over an hour ago, which it does not count.
func (s *Store) Purge(ctx context.Context, p saccount.Purge) (dropped int, err error) {
	ctx, end, err := s.enter(ctx, "purge")
	if err != nil {
		return 0, err
	}
	defer end()
	if p.Most < 1 {
		return 0, fmt.Errorf("pgstore: purge: %w bound: at least 1", saccount.ErrInvalid)
	}
	err = s.read(ctx, "purge", func() error {
		if _, err := s.exec(ctx, s.db.DB, nil, s.sql.purgeBatches); err != nil {
			return err
		}
		if !p.Receipts.IsZero() && dropped < p.Most {
			n, err := s.exec(ctx, s.db.DB, nil, s.sql.purgeReceipts, p.Receipts.UnixMicro(), p.Most-dropped)
			if err != nil {
				return err
			}
			dropped += int(n)
		}
		if !p.Receipts.IsZero() && dropped < p.Most {
			n, err := s.exec(ctx, s.db.DB, nil, s.sql.purgeRequests, p.Receipts.UnixMicro(), p.Most-dropped)
			if err != nil {
				return err
			}
			dropped += int(n)
		}
		if !p.Windows.IsZero() && dropped < p.Most {
			n, err := s.purgeWindows(ctx, p.Windows.UnixMicro(), p.Most-dropped)
			if err != nil {
				return err
			}
			dropped += n
		}
		if !p.Alerts.IsZero() && dropped < p.Most {
			n, err := s.exec(ctx, s.db.DB, nil, s.sql.purgeAlerts, p.Alerts.UnixMicro(), p.Most-dropped)
			if err != nil {
				return err
			}
			dropped += int(n)
		}
		if !p.Posts.IsZero() && dropped < p.Most {
			n, err := s.exec(ctx, s.db.DB, nil, s.sql.purgePosts, p.Posts.UnixMicro(), p.Most-dropped)
			if err != nil {
				return err
			}
			dropped += int(n)
		}
		return nil
	})
	return dropped, err
}

// purgeWindows drops counters under their organizations' locks, so that every
// process reads them anew.
func (s *Store) purgeWindows(ctx context.Context, before int64, most int) (n int, err error) {
	type window struct {
		org, sub, series string
		number, start    int64
	}
	var found []window
	err = s.each(ctx, s.db.DB, nil, s.sql.windows, []any{before, most}, func(rows *sql.Rows) error {
		var w window
		err := rows.Scan(&w.org, &w.sub, &w.number, &w.series, &w.start)
		found = append(found, w)
		return err
	})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	var orgs []string
	var org, sub, series texts
	var number, start ints
	for _, w := range found {
		orgs = append(orgs, w.org)
		org.add(w.org)
		sub.add(w.sub)
		number.add(w.number)
		series.add(w.series)
		start.add(w.start)
	}
	slices.Sort(orgs)
	orgs = slices.Compact(orgs)
	var list texts
	for _, o := range orgs {
		list.add(o)
	}
	t, err := s.tx(ctx, readCommitted)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			t.end(ctx, err)
		}
	}()
	if err := t.each(ctx, s.sql.lock, []any{list.String()}, func(*sql.Rows) error { return nil }); err != nil {
		return 0, err
	}
	gone, err := t.exec(ctx, s.sql.dropWindows, org.String(), sub.String(), number.String(), series.String(), start.String())
	if err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, s.sql.bump, list.String()); err != nil {
		return 0, err
	}
	if err := t.commit(ctx); err != nil {
		return 0, err
	}
	for _, o := range orgs {
		s.forget(o)
	}
	return int(gone), nil
}
