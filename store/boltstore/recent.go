package boltstore

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// What is listed the newest first: tabRecent has each alert under organization,
// subject and Seq, and once more without the subject; tabSinks each delivery
// under sink, state and Seq. The Seq is stored negated, so that a scan meets the
// newest first. Files of older versions get both when they are opened.

func recentKey(dst []byte, org string, subject quota.Subject, seq int64) []byte {
	return appendOrdered(appendPart(appendPart(dst, org), string(subject)), -seq)
}

func parseRecentKey(k []byte) (seq int64, err error) {
	_, rest, err := cutPart(k)
	if err == nil {
		_, rest, err = cutPart(rest)
	}
	if err == nil {
		seq, rest, err = cutOrdered(rest)
	}
	if err != nil || len(rest) != 0 {
		return 0, tabRecent.damaged(k)
	}
	return -seq, nil
}

func sinkKey(dst []byte, sink string, state alert.State, seq int64) []byte {
	return appendOrdered(append(appendPart(dst, sink), byte(state)), -seq)
}

func parseSinkKey(k []byte) (sink string, state alert.State, seq int64, err error) {
	sink, rest, err := cutPart(k)
	if err != nil || len(rest) != 9 {
		return "", 0, 0, tabSinks.damaged(k)
	}
	seq, _, err = cutOrdered(rest[1:])
	return sink, alert.State(rest[0]), -seq, err
}

func putRecent(tx *bbolt.Tx, a *quota.Alert) error {
	for _, subject := range [...]quota.Subject{"", a.Subject} {
		if err := tabRecent.put(tx, recentKey(nil, a.Org, subject, a.Seq), nil); err != nil {
			return err
		}
	}
	return nil
}

// indexAlerts fills those of the two tables that were lacking.
func indexAlerts(tx *bbolt.Tx, lacking []*table) error {
	if slices.Contains(lacking, tabRecent) {
		err := tabOutbox.each(tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
			a, err := parseAlert(k, v)
			if err == nil {
				err = putRecent(tx, &a)
			}
			return true, err
		})
		if err != nil {
			return err
		}
	}
	if slices.Contains(lacking, tabSinks) {
		return tabSent.each(tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
			d, err := parseDelivery(k, v)
			if err == nil {
				err = tabSinks.put(tx, sinkKey(nil, d.Sink, d.State, d.Alert.Seq), nil)
			}
			return true, err
		})
	}
	return nil
}

// behind is the Seq that a listing begins with, the newest first, after one.
func behind(seq int64) int64 {
	if seq == 0 {
		return math.MaxInt64
	}
	return seq - 1
}

// Alerts implements alert.Store.
func (s *Store) Alerts(ctx context.Context, q alert.Recent) (out []quota.Alert, err error) {
	if err := s.open(ctx, "alerts"); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("boltstore: alerts: %w", err)
	}
	subjects := slices.Compact(slices.Sorted(slices.Values(q.Subjects)))
	if len(subjects) == 0 {
		subjects = []quota.Subject{""}
	}
	err = s.view(func(tx *snap) error {
		var seqs []int64
		for _, subject := range subjects {
			n := 0
			err := tabRecent.scan(tx, recentKey(nil, q.Org, subject, behind(q.Before)), after(appendPart(appendPart(nil, q.Org), string(subject))), func(k, _ []byte) (bool, error) {
				seq, err := parseRecentKey(k)
				if err != nil {
					return false, err
				}
				seqs = append(seqs, seq)
				n++
				return n < q.N, nil
			})
			if err != nil {
				return err
			}
		}
		slices.SortFunc(seqs, func(a, b int64) int { return cmp.Compare(b, a) })
		for _, seq := range seqs[:min(len(seqs), q.N)] {
			a, err := s.alert(tx, seq)
			if err != nil {
				return err
			}
			if a == nil {
				return tabRecent.damaged(recentKey(nil, q.Org, "", seq))
			}
			out = append(out, *a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: alerts: %w", err)
	}
	return out, nil
}

// newest lists deliveries of one sink.
func (s *Store) newest(tx *snap, q *alert.Query, out *[]alert.Delivery) error {
	states := []alert.State{q.State}
	if q.State == 0 {
		states = []alert.State{alert.Pending, alert.Delivered, alert.Dead}
	}
	var found []alert.Delivery
	for _, state := range states {
		n := 0
		prefix := append(appendPart(nil, q.Sink), byte(state))
		err := tabSinks.scan(tx, sinkKey(nil, q.Sink, state, behind(q.AfterSeq)), after(prefix), func(k, _ []byte) (bool, error) {
			_, _, seq, err := parseSinkKey(k)
			if err != nil {
				return false, err
			}
			d, err := s.wholeDelivery(tx, seq, q.Sink)
			if err != nil {
				return false, err
			}
			if d == nil {
				return false, tabSinks.damaged(k)
			}
			if q.Match(d) {
				found = append(found, *d)
				n++
			}
			return n < q.N, nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(a, b alert.Delivery) int { return cmp.Compare(b.Alert.Seq, a.Alert.Seq) })
	*out = found[:min(len(found), q.N)]
	return nil
}

// deliveriesOf lists deliveries of the alerts that are named.
func (s *Store) deliveriesOf(tx *snap, q *alert.Query, out *[]alert.Delivery) error {
	for _, seq := range slices.Compact(slices.Sorted(slices.Values(q.Seqs))) {
		a, err := s.alert(tx, seq)
		if err != nil {
			return err
		}
		if a == nil {
			continue
		}
		err = tabSent.scan(tx, appendOrdered(nil, seq), appendOrdered(nil, seq+1), func(k, v []byte) (bool, error) {
			d, err := parseDelivery(k, v)
			if d.Alert = *a; err == nil && q.Match(&d) {
				*out = append(*out, d)
			}
			return len(*out) < q.N, err
		})
		if err != nil || len(*out) >= q.N {
			return err
		}
	}
	return nil
}

// wholeDelivery reads one with its alert; nil where either is not there.
func (s *Store) wholeDelivery(tx *snap, seq int64, sink string) (*alert.Delivery, error) {
	d, err := s.delivery(tx, seq, sink)
	if d == nil || err != nil {
		return nil, err
	}
	a, err := s.alert(tx, seq)
	if a == nil || err != nil {
		return nil, err
	}
	d.Alert = *a
	return d, nil
}

// alerts checks that alerts and deliveries are found by what lists them.
func (c *checker) alerts(tx *snap) error {
	rows := map[*table]int{}
	err := tabOutbox.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		a, err := parseAlert(k, v)
		if err != nil {
			return false, err
		}
		for _, subject := range [...]quota.Subject{"", a.Subject} {
			if rows[tabRecent]++; !c.says(tx, tabRecent, recentKey(nil, a.Org, subject, a.Seq), "") {
				c.foundf("alert %d is not listed with organization %q", a.Seq, a.Org)
			}
		}
		return true, c.step()
	})
	if err != nil {
		return err
	}
	err = tabSent.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		d, err := parseDelivery(k, v)
		if err != nil {
			return false, err
		}
		if rows[tabSinks]++; !c.says(tx, tabSinks, sinkKey(nil, d.Sink, d.State, d.Alert.Seq), "") {
			c.foundf("the delivery of alert %d to %q is not listed with the others of its state", d.Alert.Seq, d.Sink)
		}
		return true, c.step()
	})
	for _, t := range [...]*table{tabRecent, tabSinks} {
		have := 0
		if err == nil {
			err = t.each(tx.Tx, []byte{0}, nil, func([]byte, []byte) (bool, error) { have++; return true, nil })
		}
		if err == nil && have != rows[t] {
			c.foundf("the table %s has %d rows and should have %d", t.name, have, rows[t])
		}
	}
	return err
}
