package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Posted alerts: tabPosts has an id's end under organization and id, tabPostEnds
// finds them by that end. Deliveries: tabSent has each under the alert's Seq and
// the sink, tabDue finds those that are Pending under sink, Next and Seq. What
// is listed the newest first is found by what recent.go says.

const deliveryVersion = 1

func sentKey(dst []byte, seq int64, sink string) []byte {
	return append(appendOrdered(dst, seq), sink...)
}

func dueKey(dst []byte, sink string, next, seq int64) []byte {
	return appendOrdered(appendOrdered(appendPart(dst, sink), next), seq)
}

func parseDueKey(k []byte) (sink string, next, seq int64, err error) {
	sink, rest, err := cutPart(k)
	if err == nil {
		next, rest, err = cutOrdered(rest)
	}
	if err == nil {
		seq, rest, err = cutOrdered(rest)
	}
	if err != nil || len(rest) != 0 {
		return "", 0, 0, tabDue.damaged(k)
	}
	return sink, next, seq, nil
}

func appendDelivery(dst []byte, d *alert.Delivery) []byte {
	dst = append(dst, deliveryVersion, byte(d.State))
	for _, n := range [...]int64{d.Attempt, d.Tries, d.Next, d.At} {
		dst = binary.AppendVarint(dst, n)
	}
	return append(dst, d.Error...)
}

func parseDelivery(k, v []byte) (d alert.Delivery, err error) {
	seq, sink, err := cutOrdered(k)
	w := wire{b: v}
	version := w.byte()
	d.Alert.Seq, d.Sink, d.State = seq, string(sink), alert.State(w.byte())
	d.Attempt, d.Tries, d.Next, d.At = w.varint(), w.varint(), w.varint(), w.varint()
	d.Error = string(w.b)
	if err != nil || w.bad || version != deliveryVersion {
		return d, tabSent.damaged(k)
	}
	return d, nil
}

// putDelivery writes a delivery in the place of was, if there is one.
func putDelivery(tx *bbolt.Tx, d, was *alert.Delivery) error {
	if was != nil && was.State == alert.Pending && (d.State != alert.Pending || d.Next != was.Next) {
		if err := tabDue.delete(tx, dueKey(nil, was.Sink, was.Next, was.Alert.Seq)); err != nil {
			return err
		}
	}
	if d.State == alert.Pending {
		if err := tabDue.put(tx, dueKey(nil, d.Sink, d.Next, d.Alert.Seq), nil); err != nil {
			return err
		}
	}
	if was == nil || was.State != d.State {
		if was != nil {
			if err := tabSinks.delete(tx, sinkKey(nil, was.Sink, was.State, was.Alert.Seq)); err != nil {
				return err
			}
		}
		if err := tabSinks.put(tx, sinkKey(nil, d.Sink, d.State, d.Alert.Seq), nil); err != nil {
			return err
		}
	}
	return tabSent.put(tx, sentKey(nil, d.Alert.Seq, d.Sink), appendDelivery(nil, d))
}

// delivery reads one; nil where it is not there.
func (s *Store) delivery(tx *snap, seq int64, sink string) (*alert.Delivery, error) {
	k := sentKey(nil, seq, sink)
	v, err := tabSent.get(tx, k)
	if v == nil || err != nil {
		return nil, err
	}
	d, err := parseDelivery(k, v)
	return &d, err
}

// alert reads one; nil where it is not there.
func (s *Store) alert(tx *snap, seq int64) (*quota.Alert, error) {
	k := appendOrdered(nil, seq)
	v, err := tabOutbox.get(tx, k)
	if v == nil || err != nil {
		return nil, err
	}
	a, err := parseAlert(k, v)
	return &a, err
}

// errNothing ends a change that has nothing to write.
var errNothing = errors.New("nothing to write")

// change runs plan in a read transaction and put in a write transaction behind
// it; nobody else writes between.
func (s *Store) change(ctx context.Context, verb string, plan func(tx *snap) error, put func(tx *bbolt.Tx) error) error {
	if err := s.lock(ctx, verb); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	err := s.read(plan)
	s.done()
	if errors.Is(err, errNothing) {
		return nil
	}
	if err == nil {
		err = s.update(put)
	}
	if err != nil {
		return fmt.Errorf("boltstore: %s: %w", verb, err)
	}
	return nil
}

// planPosts finds which of a batch's alerts are new.
func (s *Store) planPosts(tx *snap, batch *saccount.Batch, p *plan) error {
	seen := map[string]bool{}
	for _, post := range batch.Alerts {
		if id := post.Alert.ID; id != "" {
			if err := checkID("alert's id", id); err != nil {
				return err
			}
			v, err := tabPosts.get(tx, pairKey(nil, batch.Org, id))
			if err != nil {
				return err
			}
			if v != nil || seen[id] {
				continue
			}
			seen[id] = true
			p.posts = append(p.posts, post)
		}
		if !post.Quiet {
			a := post.Alert
			a.Org = batch.Org
			p.alerts = append(p.alerts, a)
		}
	}
	return nil
}

func putPosts(tx *bbolt.Tx, org string, posts []alert.Post) error {
	for i := range posts {
		k := pairKey(nil, org, posts[i].Alert.ID)
		if err := tabPosts.put(tx, k, binary.AppendVarint(nil, posts[i].Keep)); err != nil {
			return err
		}
		if err := tabPostEnds.put(tx, append(appendOrdered(nil, posts[i].Keep), k...), nil); err != nil {
			return err
		}
	}
	return nil
}

// overPosts finds ids of posted alerts that are remembered no longer.
func (s *Store) overPosts(tx *snap, p saccount.Purge, out *purge) error {
	if p.Posts.IsZero() || out.n >= p.Most {
		return nil
	}
	return tabPostEnds.scan(tx, []byte{0}, appendOrdered(nil, p.Posts.UnixMicro()+1), func(k, _ []byte) (bool, error) {
		_, key, err := cutOrdered(k)
		if err != nil {
			return false, tabPostEnds.damaged(k)
		}
		out.pends = append(out.pends, bytes.Clone(k))
		out.posts = append(out.posts, bytes.Clone(key))
		out.n++
		return out.n < p.Most, nil
	})
}

// overSent finds the deliveries of an alert that is dropped.
func (s *Store) overSent(tx *snap, seq int64, out *purge) error {
	return tabSent.scan(tx, appendOrdered(nil, seq), appendOrdered(nil, seq+1), func(k, v []byte) (bool, error) {
		d, err := parseDelivery(k, v)
		if err != nil {
			return false, err
		}
		out.sent = append(out.sent, bytes.Clone(k))
		out.sinks = append(out.sinks, sinkKey(nil, d.Sink, d.State, seq))
		if d.State == alert.Pending {
			out.due = append(out.due, dueKey(nil, d.Sink, d.Next, seq))
		}
		return true, nil
	})
}

var metaDispatched = []byte("dispatched")

func (s *Store) dispatched(tx *snap) (int64, error) {
	v, err := tabMeta.get(tx, metaDispatched)
	if v == nil || err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(v)
	if size != len(v) {
		return 0, tabMeta.damaged(metaDispatched)
	}
	return int64(n), nil
}

// Dispatched implements alert.Store.
func (s *Store) Dispatched(ctx context.Context) (seq int64, err error) {
	if err := s.open(ctx, "dispatched"); err != nil {
		return 0, err
	}
	err = s.view(func(tx *snap) error {
		seq, err = s.dispatched(tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("boltstore: dispatched: %w", err)
	}
	return seq, nil
}

// Dispatch implements alert.Store.
func (s *Store) Dispatch(ctx context.Context, from, to int64, ds []alert.Delivery) error {
	if err := alert.CheckDispatch(from, to, ds); err != nil {
		return fmt.Errorf("boltstore: dispatch: %w", err)
	}
	var puts []alert.Delivery
	plan := func(tx *snap) error {
		have, err := s.dispatched(tx)
		if err != nil {
			return err
		}
		if have != from {
			return alert.ErrMoved
		}
		for i := range ds {
			d := ds[i]
			a, err := s.alert(tx, d.Alert.Seq)
			if err != nil {
				return err
			}
			was, err := s.delivery(tx, d.Alert.Seq, d.Sink)
			if err != nil {
				return err
			}
			if a != nil && was == nil {
				d.Attempt, d.Tries, d.Error = 0, 0, ""
				puts = append(puts, d)
			}
		}
		return nil
	}
	return s.change(ctx, "dispatch", plan, func(tx *bbolt.Tx) error {
		for i := range puts {
			if err := putDelivery(tx, &puts[i], nil); err != nil {
				return err
			}
		}
		return tabMeta.put(tx, metaDispatched, binary.AppendUvarint(nil, uint64(to)))
	})
}

// DueSinks implements alert.Store. The order is that of the names' lengths, and
// of their bytes where these are equal.
func (s *Store) DueSinks(ctx context.Context, now int64, after string, n int) (out []string, err error) {
	if err := s.open(ctx, "due sinks"); err != nil {
		return nil, err
	}
	err = s.view(func(tx *snap) error {
		lo := []byte{0}
		if after != "" {
			lo = nextSink(after)
		}
		for len(out) < n && lo != nil {
			sink := ""
			var next int64
			err := tabDue.scan(tx, lo, nil, func(k, _ []byte) (bool, error) {
				var err error
				sink, next, _, err = parseDueKey(k)
				return false, err
			})
			if err != nil {
				return err
			}
			if sink == "" {
				return nil
			}
			if next <= now {
				out = append(out, sink)
			}
			lo = nextSink(sink)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: due sinks: %w", err)
	}
	return out, nil
}

// nextSink is where the rows behind those of a sink begin.
func nextSink(sink string) []byte { return after(appendPart(nil, sink)) }

// ClaimDeliveries implements alert.Store.
func (s *Store) ClaimDeliveries(ctx context.Context, sink string, now, until int64, n int) (out []alert.Delivery, err error) {
	if err := s.open(ctx, "claim"); err != nil {
		return nil, err
	}
	if n < 1 || now == math.MaxInt64 {
		return nil, nil
	}
	var old []alert.Delivery
	plan := func(tx *snap) error {
		err := tabDue.scan(tx, appendPart(nil, sink), dueKey(nil, sink, now+1, math.MinInt64), func(k, _ []byte) (bool, error) {
			_, _, seq, err := parseDueKey(k)
			if err != nil {
				return false, err
			}
			d, err := s.delivery(tx, seq, sink)
			if err != nil {
				return false, err
			}
			a, err := s.alert(tx, seq)
			if err != nil {
				return false, err
			}
			if d == nil || a == nil {
				return false, tabDue.damaged(k)
			}
			d.Alert = *a
			old = append(old, *d)
			return len(old) < n, nil
		})
		if err == nil && len(old) == 0 {
			err = errNothing
		}
		return err
	}
	err = s.change(ctx, "claim", plan, func(tx *bbolt.Tx) error {
		for i := range old {
			d := old[i]
			d.Attempt++
			d.Tries++
			d.Next = until
			if err := putDelivery(tx, &d, &old[i]); err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SettleDeliveries implements alert.Store.
func (s *Store) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (settled int, err error) {
	var puts, old []alert.Delivery
	plan := func(tx *snap) error {
		for i := range ds {
			was, err := s.delivery(tx, ds[i].Alert.Seq, ds[i].Sink)
			if err != nil {
				return err
			}
			if was == nil || was.Attempt != ds[i].Attempt {
				continue
			}
			d := *was
			d.State, d.Tries, d.Next, d.At, d.Error = ds[i].State, ds[i].Tries, ds[i].Next, ds[i].At, ds[i].Error
			puts, old = append(puts, d), append(old, *was)
		}
		if len(puts) == 0 {
			return errNothing
		}
		return nil
	}
	err = s.change(ctx, "settle", plan, func(tx *bbolt.Tx) error {
		for i := range puts {
			if err := putDelivery(tx, &puts[i], &old[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(puts), nil
}

// Deliveries implements alert.Store.
func (s *Store) Deliveries(ctx context.Context, q alert.Query) (out []alert.Delivery, err error) {
	if err := s.open(ctx, "deliveries"); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("boltstore: deliveries: %w", err)
	}
	err = s.view(func(tx *snap) error {
		if q.Newest {
			return s.newest(tx, &q, &out)
		}
		if len(q.Seqs) > 0 {
			return s.deliveriesOf(tx, &q, &out)
		}
		var a *quota.Alert
		return tabSent.scan(tx, sentKey(nil, max(q.AfterSeq, 0), q.AfterSink), nil, func(k, v []byte) (bool, error) {
			d, err := parseDelivery(k, v)
			if err != nil {
				return false, err
			}
			if a == nil || a.Seq != d.Alert.Seq {
				if a, err = s.alert(tx, d.Alert.Seq); err != nil {
					return false, err
				}
				if a == nil {
					return false, tabSent.damaged(k)
				}
			}
			if d.Alert = *a; q.Match(&d) {
				out = append(out, d)
			}
			return len(out) < q.N, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: deliveries: %w", err)
	}
	return out, nil
}

// Turn implements alert.Store.
func (s *Store) Turn(ctx context.Context, name string, now, until int64) (ok bool, err error) {
	if err := checkID("turn", name); err != nil || name == "" {
		return false, fmt.Errorf("boltstore: turn: %w name: 1 to %d bytes", saccount.ErrInvalid, maxID)
	}
	plan := func(tx *snap) error {
		v, err := tabTurns.get(tx, []byte(name))
		if err != nil {
			return err
		}
		end, size := binary.Varint(v)
		if v != nil && size != len(v) {
			return tabTurns.damaged([]byte(name))
		}
		if ok = v == nil || alert.TurnOver(end, now, until); !ok {
			return errNothing
		}
		return nil
	}
	err = s.change(ctx, "turn", plan, func(tx *bbolt.Tx) error {
		return tabTurns.put(tx, []byte(name), binary.AppendVarint(nil, until))
	})
	return ok && err == nil, err
}
