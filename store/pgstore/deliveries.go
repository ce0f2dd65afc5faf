package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// scanAlert is where the columns of an alert go.
func scanAlert(a *quota.Alert) []any {
	return []any{&a.Seq, &a.Org, &a.Subject, &a.Limit, &a.Start, &a.End, &a.Threshold, &a.Max, &a.Used, &a.Overage, &a.At, &a.Kind, &a.ID, &a.Data}
}

func scanDelivery(d *alert.Delivery) []any {
	return append([]any{&d.Sink, &d.State, &d.Attempt, &d.Tries, &d.Next, &d.At, &d.Error}, scanAlert(&d.Alert)...)
}

func checkPost(a *quota.Alert) error {
	for _, f := range [...]struct{ what, text string }{{"alert's id", a.ID}, {"alert's kind", a.Kind}, {"alert's subject", string(a.Subject)}, {"alert's limit", a.Limit}} {
		if err := checkText(f.what, f.text); err != nil {
			return err
		}
	}
	if !valid(a.Data) {
		return fmt.Errorf("%w alert's data: not UTF-8, or with a zero byte", saccount.ErrInvalid)
	}
	return nil
}

// postAlerts puts those of a batch's alerts into the outbox that are new.
func (s *Store) postAlerts(ctx context.Context, t *tx, batch *saccount.Batch) error {
	var ids texts
	var keeps ints
	asked := map[string]bool{}
	for i := range batch.Alerts {
		if p := &batch.Alerts[i]; p.Alert.ID != "" && !asked[p.Alert.ID] {
			asked[p.Alert.ID] = true
			ids.add(p.Alert.ID)
			keeps.add(p.Keep)
		}
	}
	fresh := map[string]bool{}
	if len(asked) > 0 {
		err := t.each(ctx, s.sql.newPosts, []any{batch.Org, ids.String(), keeps.String()}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			fresh[id] = true
			return err
		})
		if err != nil {
			return err
		}
	}
	var alerts []quota.Alert
	for i := range batch.Alerts {
		p := &batch.Alerts[i]
		if p.Alert.ID != "" {
			if !fresh[p.Alert.ID] {
				continue
			}
			delete(fresh, p.Alert.ID)
		}
		if !p.Quiet {
			a := p.Alert
			a.Org = batch.Org
			alerts = append(alerts, a)
		}
	}
	return s.putAlerts(ctx, t, alerts)
}

// Dispatched implements alert.Store.
func (s *Store) Dispatched(ctx context.Context) (seq int64, err error) {
	ctx, end, err := s.begin(ctx, "dispatched")
	if err != nil {
		return 0, err
	}
	defer end()
	err = s.read(ctx, "dispatched", func() error {
		var n int64
		err := s.each(ctx, s.db.DB, nil, s.sql.dispatched, nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
		if err == nil {
			seq = n
		}
		return err
	})
	return seq, err
}

// Dispatch implements alert.Store. Where its answer was lost and it is tried
// again, it may say alert.ErrMoved of what it did itself.
func (s *Store) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	ctx, end, err := s.begin(ctx, "dispatch")
	if err != nil {
		return err
	}
	defer end()
	if err := alert.CheckDispatch(from, to, ds); err != nil {
		return fmt.Errorf("pgstore: dispatch: %w", err)
	}
	var seq, state, next, at ints
	var sink texts
	for i := range ds {
		if err := checkText("sink", ds[i].Sink); err != nil {
			return fmt.Errorf("pgstore: dispatch: %w", err)
		}
		seq.add(ds[i].Alert.Seq)
		sink.add(ds[i].Sink)
		state.add(int64(ds[i].State))
		next.add(ds[i].Next)
		at.add(ds[i].At)
	}
	return s.read(ctx, "dispatch", func() (err error) {
		t, err := s.tx(ctx, readCommitted)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				t.end(ctx, err)
			}
		}()
		var have int64
		err = t.each(ctx, s.sql.lockDispatched, nil, func(rows *sql.Rows) error { var set string; return rows.Scan(&have, &set) })
		if err != nil {
			return err
		}
		if have != from {
			return alert.ErrMoved
		}
		if len(ds) > 0 {
			if _, err := t.exec(ctx, s.sql.putDeliveries, seq.String(), sink.String(), state.String(), next.String(), at.String()); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, s.sql.dispatch, to); err != nil {
			return err
		}
		return t.commit(ctx)
	})
}

// DueSinks implements alert.Store, in the order of the names' bytes.
func (s *Store) DueSinks(ctx context.Context, now int64, after string, n int) (out []string, err error) {
	ctx, end, err := s.begin(ctx, "due sinks")
	if err != nil {
		return nil, err
	}
	defer end()
	err = s.read(ctx, "due sinks", func() error {
		var got []string
		err := s.each(ctx, s.db.DB, nil, s.sql.dueSinks, []any{now, after, max(n, 0)}, func(rows *sql.Rows) error {
			var sink string
			err := rows.Scan(&sink)
			got = append(got, sink)
			return err
		})
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

// ClaimDeliveries implements alert.Store, with FOR UPDATE SKIP LOCKED. Where its
// answer was lost, what it claimed is free again at until.
func (s *Store) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) (out []alert.Delivery, err error) {
	ctx, end, err := s.begin(ctx, "claim")
	if err != nil {
		return nil, err
	}
	defer end()
	err = s.read(ctx, "claim", func() error {
		got, err := s.scanDeliveries(ctx, s.sql.claim, sink, now, until, max(n, 0))
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

func (s *Store) scanDeliveries(ctx context.Context, text string, args ...any) ([]alert.Delivery, error) {
	var out []alert.Delivery // not a result: who is left may still write to it
	err := s.each(ctx, s.db.DB, nil, text, args, func(rows *sql.Rows) error {
		var d alert.Delivery
		err := rows.Scan(scanDelivery(&d)...)
		out = append(out, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SettleDeliveries implements alert.Store. Said twice, it says the same.
func (s *Store) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (settled int, err error) {
	ctx, end, err := s.begin(ctx, "settle")
	if err != nil {
		return 0, err
	}
	defer end()
	var seq, attempt, state, tries, next, at ints
	var sink, text texts
	for i := range ds {
		d := &ds[i]
		seq.add(d.Alert.Seq)
		sink.add(d.Sink)
		attempt.add(d.Attempt)
		state.add(int64(d.State))
		tries.add(d.Tries)
		next.add(d.Next)
		at.add(d.At)
		text.add(strings.ReplaceAll(strings.ToValidUTF8(d.Error, "?"), "\x00", "?"))
	}
	err = s.read(ctx, "settle", func() error {
		n, err := s.exec(ctx, s.db.DB, nil, s.sql.settle, seq.String(), sink.String(), attempt.String(), state.String(), tries.String(), next.String(), at.String(), text.String())
		if err == nil {
			settled = int(n)
		}
		return err
	})
	return settled, err
}

// Deliveries implements alert.Store.
func (s *Store) Deliveries(ctx context.Context, q alert.Query) (out []alert.Delivery, err error) {
	ctx, end, err := s.begin(ctx, "deliveries")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("pgstore: deliveries: %w", err)
	}
	text, order, args := s.sql.deliveries, " ORDER BY d.seq, d.sink LIMIT $3", []any{q.AfterSeq, q.AfterSink, q.N}
	if q.Newest {
		text, order, args = s.sql.newest, " ORDER BY d.seq DESC LIMIT $3", []any{before(q.AfterSeq), q.Sink, q.N}
	}
	also := func(cond string, arg any) {
		args = append(args, arg)
		text += fmt.Sprintf(" AND %s = $%d", cond, len(args))
	}
	if q.Org != "" {
		also("x.org", q.Org)
	}
	if q.Sink != "" && !q.Newest {
		also("d.sink", q.Sink)
	}
	if q.State != 0 {
		text += fmt.Sprintf(" AND d.state = %d", q.State) // in the text, for the partial indexes
	}
	if len(q.Seqs) > 0 {
		args = append(args, numbers(q.Seqs))
		text += fmt.Sprintf(" AND d.seq = ANY($%d::bigint[])", len(args))
	}
	text += order
	err = s.read(ctx, "deliveries", func() error {
		got, err := s.scanDeliveries(ctx, text, args...)
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

// before is the Seq that a listing begins below, the newest first.
func before(seq int64) int64 {
	if seq == 0 {
		return math.MaxInt64
	}
	return seq
}

func numbers(ns []int64) string {
	var a ints
	for _, n := range ns {
		a.add(n)
	}
	return a.String()
}

// Alerts implements alert.Store.
func (s *Store) Alerts(ctx context.Context, q alert.Recent) (out []quota.Alert, err error) {
	ctx, end, err := s.begin(ctx, "alerts")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("pgstore: alerts: %w", err)
	}
	text, args := s.sql.recent, []any{q.Org, before(q.Before), q.N}
	if len(q.Subjects) > 0 {
		var subjects texts
		for _, sub := range slices.Compact(slices.Sorted(slices.Values(q.Subjects))) {
			if valid(string(sub)) { // no alert is about another
				subjects.add(string(sub))
			}
		}
		text, args = s.sql.recentOf, append(args, subjects.String())
	}
	if !valid(q.Org) {
		return nil, nil
	}
	err = s.read(ctx, "alerts", func() error {
		got, err := s.scanAlerts(ctx, text, args...)
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

// Turn implements alert.Store. Where its answer was lost, the turn may be
// nobody's until it is over.
func (s *Store) Turn(ctx context.Context, name string, now, until int64) (ok bool, err error) {
	ctx, end, err := s.begin(ctx, "turn")
	if err != nil {
		return false, err
	}
	defer end()
	if err := checkText("turn", name); err != nil {
		return false, fmt.Errorf("pgstore: turn: %w", err)
	}
	err = s.read(ctx, "turn", func() error {
		n, err := s.exec(ctx, s.db.DB, nil, s.sql.turn, name, now, until)
		ok = err == nil && n == 1
		return err
	})
	return ok, err
}
