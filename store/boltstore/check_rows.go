package boltstore

import (
	"bytes"
	"encoding/binary"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// form checks that a row can be read as what its table holds.
func form(t *table, k, v []byte) (err error) {
	bad := t.damaged(k)
	switch t {
	case tabRecords:
		kind, _, id, err := cutRecordKey(k)
		if err != nil {
			return bad
		}
		_, err = parseRecord(kind, id, k, v)
		return err
	case tabSettings:
		if _, n := binary.Uvarint(v); n != len(v) {
			return bad
		}
	case tabUses:
		w := wire{b: v}
		w.time()
		w.bytes()
		if w.end() != nil {
			return bad
		}
	case tabAudit:
		_, rest, err := cutPart(k)
		if err != nil || len(rest) != 8 {
			return bad
		}
		seq, _, err := cutOrdered(rest)
		switch {
		case err != nil || seq < 0:
			return bad
		case seq == 0:
			_, err = parseCut(k, v)
		default:
			_, err = parseEntry(k, seq, v)
		}
		return err
	case tabCounters:
		if _, _, err := parseCounterKey(k); err != nil {
			return bad
		}
		_, err = parseCounter(k, v)
	case tabEnds:
		_, rest, err := cutOrdered(k)
		if err == nil {
			_, _, err = parseCounterKey(rest)
		}
		if err != nil {
			return bad
		}
	case tabRequests:
		_, rest, err := cutOrdered(k)
		if err == nil {
			_, _, _, err = cutRecordKey(rest)
		}
		if err != nil {
			return bad
		}
	case tabOpenings:
		if _, rest, err := quota.ParseOpenings(v); err != nil || len(rest) != 0 {
			return bad
		}
	case tabReceipts:
		_, err = parseReceipt(k, v)
	case tabOutbox:
		_, err = parseAlert(k, v)
	case tabSent:
		_, err = parseDelivery(k, v)
	case tabRecent:
		_, err = parseRecentKey(k)
	case tabSinks:
		_, _, _, err = parseSinkKey(k)
	case tabDue:
		_, _, _, err = parseDueKey(k)
	case tabPosts, tabTurns:
		if _, n := binary.Varint(v); n != len(v) {
			return bad
		}
	}
	return err
}

// cutRecordKey is the inverse of recordKey; org is empty of an organization.
func cutRecordKey(k []byte) (kind saccount.Kind, org, id string, err error) {
	if len(k) == 0 {
		return 0, "", "", errKey
	}
	org, rest, err := cutPart(k[1:])
	return saccount.Kind(k[0]), org, string(rest), err
}

// records checks that records and the indexes that find them agree.
func (c *checker) records(tx *snap) error {
	err := tabRecords.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		kind, _, id, err := cutRecordKey(k)
		if err != nil {
			return false, tabRecords.damaged(k)
		}
		r, err := parseRecord(kind, id, k, v)
		if err != nil {
			return false, err
		}
		if r.Deleted.IsZero() && r.Name != "" && kind.UniqueNames() && !c.says(tx, tabNames, nameKey(nil, kind, r.Org, r.Parent, r.Name), id) {
			c.foundf("%s %q is not found by its name", kind, id)
		}
		if state := stateIn(r); state != 0 && !c.says(tx, tabStates, stateKey(nil, state, r), "") {
			c.foundf("%s %q is not listed with those in its state", kind, id)
		}
		if kind.FoundByID() && !c.says(tx, tabKeys, []byte(id), r.Org) {
			c.foundf("key %q is not found by its id", id)
		}
		if kind == saccount.KindRequest && !c.says(tx, tabRequests, requestKey(nil, r), "") {
			c.foundf("request %q will never be dropped", id)
		}
		if kind == saccount.KindKey {
			if !c.says(tx, tabChildren, childKey(nil, r.Org, r.Parent, id), "") {
				c.foundf("key %q is not listed with its account", id)
			}
		}
		return true, c.step()
	})
	if err != nil {
		return err
	}
	// The other way round: nothing is found that is not there.
	count := func(t *table, of func(r *saccount.Record) bool) error {
		have, want := 0, 0
		err := tabRecords.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
			kind, _, id, err := cutRecordKey(k)
			if err != nil {
				return false, err
			}
			r, err := parseRecord(kind, id, k, v)
			if err == nil && of(r) {
				want++
			}
			return true, err
		})
		if err == nil {
			err = t.each(tx.Tx, []byte{0}, nil, func([]byte, []byte) (bool, error) { have++; return true, nil })
		}
		if err == nil && have != want {
			c.foundf("the table %s has %d rows and should have %d", t.name, have, want)
		}
		return err
	}
	for _, index := range []struct {
		t  *table
		of func(r *saccount.Record) bool
	}{
		{tabKeys, func(r *saccount.Record) bool { return r.Kind.FoundByID() }},
		{tabRequests, func(r *saccount.Record) bool { return r.Kind == saccount.KindRequest }},
		{tabChildren, func(r *saccount.Record) bool { return r.Kind == saccount.KindKey }},
		{tabNames, func(r *saccount.Record) bool { return r.Kind.UniqueNames() && r.Deleted.IsZero() && r.Name != "" }},
		{tabStates, func(r *saccount.Record) bool { return stateIn(r) != 0 }},
	} {
		if err := count(index.t, index.of); err != nil {
			return err
		}
	}
	return nil
}

// says reports whether a row is there and says what it should.
func (c *checker) says(tx *snap, t *table, key []byte, want string) bool {
	b, err := t.bucket(tx.Tx)
	if err != nil {
		return false
	}
	v := b.Get(key)
	if v == nil {
		return false
	}
	v, err = t.unseal(key, v)
	return err == nil && bytes.Equal(v, []byte(want))
}

// held checks that what counters hold is what open reservations hold.
func (c *checker) held(tx *snap) error {
	want := map[string]quota.Credits{}
	err := tabReceipts.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		r, err := parseReceipt(k, v)
		if err != nil {
			return false, err
		}
		open := r.Held()
		if open != c.says(tx, tabHolds, k, "") {
			c.foundf("reservation %q is listed as open and is not, or the other way round", r.ID)
		}
		if !open {
			return true, c.step()
		}
		org, _, err := cutPart(k)
		if err != nil {
			return false, tabReceipts.damaged(k)
		}
		b := c.s.newBook(org)
		for i := range r.Levels {
			l := &r.Levels[i]
			for j := range l.Limits {
				e := &l.Limits[j]
				want[string(counterKey(nil, org, quota.CounterID{Subject: l.Subject, Series: e.Limit, Number: e.Number, Start: e.Start}))] += r.Holding()
			}
			want[string(counterKey(nil, org, quota.CounterID{Subject: l.Subject, Series: quota.SeriesUsage, Start: l.Bucket}))] += r.Holding()
			open, err := b.storedOpenings(tx, l.Subject)
			if err != nil {
				return false, err
			}
			for _, o := range open {
				if o.Number > l.Sequence && l.Bucket >= o.Start && (o.End == 0 || l.Bucket < o.End) {
					want[string(counterKey(nil, org, quota.CounterID{Subject: l.Subject, Series: o.Series, Number: o.Number, Start: o.Start}))] += r.Holding()
				}
			}
		}
		return true, c.step()
	})
	if err != nil {
		return err
	}
	return tabCounters.each(tx.Tx, []byte{0}, nil, func(k, v []byte) (bool, error) {
		x, err := parseCounter(k, v)
		if err == nil && x.Held != want[string(k)] {
			org, id, _ := parseCounterKey(k)
			c.foundf("counter %q %d of %s in %q holds %s credits, open reservations %s", id.Series, id.Number, id.Subject, org, x.Held, want[string(k)])
		}
		if err == nil {
			err = c.step()
		}
		return true, err
	})
}
