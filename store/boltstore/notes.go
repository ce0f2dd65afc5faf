package boltstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// What is appended and read in order: alerts, last uses.

// maxAddr bounds the address of a last use, in bytes.
const maxAddr = 256

// Touch implements saccount.Store.
func (s *Store) Touch(ctx context.Context, touches []saccount.Touch) error {
	if err := s.lock(ctx, "touch"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	newest := map[string]saccount.Use{}
	err := s.read(func(tx *snap) error {
		for i := range touches {
			t := &touches[i]
			if err := checkID("key", t.Key); err != nil {
				return err
			}
			if len(t.Use.Addr) > maxAddr {
				return fmt.Errorf("%w address: %d bytes, at most %d", saccount.ErrInvalid, len(t.Use.Addr), maxAddr)
			}
			if t.Key == "" {
				continue
			}
			org, err := tabKeys.get(tx, []byte(t.Key))
			if err != nil {
				return err
			}
			if org == nil || string(org) != t.Org {
				continue
			}
			old, noted := newest[t.Key]
			if !noted {
				if old, err = s.use(tx, t.Key); err != nil {
					return err
				}
			}
			if at := saccount.Micro(t.Use.At); at.After(old.At) {
				newest[t.Key] = saccount.Use{At: at, Addr: t.Use.Addr}
			}
		}
		return nil
	})
	s.done()
	if err == nil && len(newest) > 0 {
		err = s.update(func(tx *bbolt.Tx) error {
			for key, u := range newest {
				if err := tabUses.put(tx, []byte(key), appendPart(appendTime(nil, u.At), u.Addr)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("boltstore: touch: %w", err)
	}
	return nil
}

func (s *Store) use(tx *snap, key string) (u saccount.Use, err error) {
	v, err := tabUses.get(tx, []byte(key))
	if v == nil || err != nil {
		return u, err
	}
	w := wire{b: v}
	u.At, u.Addr = w.time(), w.string()
	if w.end() != nil {
		return u, tabUses.damaged([]byte(key))
	}
	return u, nil
}

var metaAlerts = []byte("alerts") // the highest Seq given

func putAlerts(tx *bbolt.Tx, alerts []quota.Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	for i := range alerts {
		if err := tabOutbox.put(tx, appendOrdered(nil, alerts[i].Seq), quota.AppendAlert(nil, &alerts[i])); err != nil {
			return err
		}
		if err := putRecent(tx, &alerts[i]); err != nil {
			return err
		}
	}
	return tabMeta.put(tx, metaAlerts, binary.AppendUvarint(nil, uint64(alerts[len(alerts)-1].Seq)))
}

// lastAlert reads the highest Seq given.
func (s *Store) lastAlert(tx *snap) (int64, error) {
	v, err := tabMeta.get(tx, metaAlerts)
	if v == nil || err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(v)
	if size != len(v) {
		return 0, tabMeta.damaged(metaAlerts)
	}
	return int64(n), nil
}

// Outbox implements quota.Store.
func (s *Store) Outbox(ctx context.Context, after int64, n int) (out []quota.Alert, err error) {
	if err := s.open(ctx, "outbox"); err != nil {
		return nil, err
	}
	if n < 1 || after == math.MaxInt64 {
		return nil, nil
	}
	err = s.view(func(tx *snap) error {
		return tabOutbox.scan(tx, appendOrdered(nil, max(after, 0)+1), nil, func(k, v []byte) (bool, error) {
			a, err := parseAlert(k, v)
			out = append(out, a)
			return len(out) < n, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: outbox: %w", err)
	}
	return out, nil
}

func parseAlert(k, v []byte) (quota.Alert, error) {
	a, rest, err := quota.ParseAlert(v)
	if err != nil || len(rest) != 0 {
		return a, tabOutbox.damaged(k)
	}
	return a, nil
}
