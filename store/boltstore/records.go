package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

const recordVersion = 1

const (
	recordDisabled = 1 << iota
	recordLabels   // there is a map, be it empty
	recordData     // there is a slice, be it empty
)

// appendRecord appends what a record's key does not say.
func appendRecord(dst []byte, r *saccount.Record) []byte {
	var flags byte
	if r.Disabled {
		flags |= recordDisabled
	}
	if r.Labels != nil {
		flags |= recordLabels
	}
	if r.Data != nil {
		flags |= recordData
	}
	dst = append(dst, recordVersion, flags)
	dst = binary.AppendUvarint(dst, uint64(r.Revision))
	dst = appendPart(dst, r.Org)
	dst = appendPart(dst, r.Parent)
	dst = appendPart(dst, r.Name)
	dst = appendTime(appendTime(appendTime(dst, r.Created), r.Deleted), r.Expires)
	dst = binary.AppendUvarint(dst, uint64(len(r.Labels)))
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		dst = appendPart(appendPart(dst, k), r.Labels[k])
	}
	return append(dst, r.Data...)
}

// parseRecord makes a record that shares nothing with v.
func parseRecord(kind saccount.Kind, id string, key, v []byte) (*saccount.Record, error) {
	w := wire{b: v}
	r := &saccount.Record{Kind: kind, ID: id}
	version, flags := w.byte(), w.byte()
	r.Disabled = flags&recordDisabled != 0
	r.Revision = int64(w.uvarint())
	r.Org, r.Parent, r.Name = w.string(), w.string(), w.string()
	r.Created, r.Deleted, r.Expires = w.time(), w.time(), w.time()
	n := w.length()
	if flags&recordLabels != 0 {
		r.Labels = make(map[string]string, n)
		for range n {
			k := w.string()
			r.Labels[k] = w.string()
		}
	}
	if flags&recordData != 0 {
		r.Data = append([]byte{}, w.b...)
	}
	if w.bad || version != recordVersion {
		return nil, tabRecords.damaged(key)
	}
	return r, nil
}

func (s *Store) record(tx *snap, kind saccount.Kind, org, id string) (*saccount.Record, error) {
	var room [160]byte
	key := recordKey(room[:0], kind, org, id)
	v, err := tabRecords.get(tx, key)
	if v == nil || err != nil {
		return nil, err
	}
	return parseRecord(kind, id, key, v)
}

func checkRecord(r *saccount.Record) error {
	for _, f := range [...]struct{ what, text string }{{"organization", r.Org}, {"id", r.ID}, {"parent", r.Parent}, {"name", r.Name}} {
		if err := checkID(f.what, f.text); err != nil {
			return err
		}
	}
	return nil
}

// Write implements saccount.Store, as one transaction.
func (s *Store) Write(ctx context.Context, batch saccount.Batch) error {
	if err := s.lock(ctx, "write"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := s.writeBatch(&batch); err != nil {
		return fmt.Errorf("boltstore: write: %w", err)
	}
	return nil
}

// plan is what a Write will put, decided before it begins to.
type plan struct {
	puts  []saccount.Record
	old   []*saccount.Record // that each put replaces; nil for none
	audit []saccount.Entry   // as they are appended
	cut   [][]byte           // keys of audit entries that go
	// settings is the organization's settings number after it; raise says
	// whether it must be written.
	settings int64
	raise    bool
	posts    []alert.Post // whose ids are new
	alerts   []quota.Alert
}

func (s *Store) writeBatch(batch *saccount.Batch) error {
	defer s.done()
	p, err := s.plan(batch)
	if err != nil {
		return err
	}
	s.batch++
	s.touched = s.touched[:0]
	if len(batch.Open) > 0 {
		b, err := s.book(batch.Org)
		if err != nil {
			return err
		}
		s.enter(b)
		for i := range batch.Open {
			o := &batch.Open[i]
			if err = checkOpening(o); err == nil {
				err = b.Open(o.Subject, o.Entry, o.Was, batch.At.UnixMicro())
			}
			if err != nil {
				b.Rollback()
				s.left()
				return err
			}
		}
	}
	s.done()
	if err := s.commit(p.alerts, func(tx *bbolt.Tx) error { return putPlan(tx, batch, p) }); err != nil {
		return err
	}
	if b := s.books[batch.Org]; b != nil {
		b.Settings = p.settings
	}
	return nil
}

func checkOpening(o *saccount.Opening) error {
	if len(o.Subject) > maxID || len(o.Entry.Limit) > maxName || o.Was != nil && len(o.Was.Limit) > maxName {
		return fmt.Errorf("%w opening: a subject or limit of more than %d bytes", saccount.ErrInvalid, maxID)
	}
	return nil
}

// plan checks the changes against the records as they stand.
func (s *Store) plan(batch *saccount.Batch) (*plan, error) {
	p := &plan{}
	if err := checkID("organization", batch.Org); err != nil {
		return nil, err
	}
	for i := range batch.Changes {
		if err := checkRecord(&batch.Changes[i].Record); err != nil {
			return nil, err
		}
	}
	err := s.read(func(tx *snap) error {
		var failed error // what a look-up could not read
		fail := func(err error) {
			if failed == nil {
				failed = err
			}
		}
		get := func(kind saccount.Kind, id string) *saccount.Record {
			r, err := s.record(tx, kind, batch.Org, id)
			fail(err)
			return r
		}
		v := saccount.NewBatchView(batch, get, func(kind saccount.Kind, parent, name string) string {
			id, err := tabNames.get(tx, nameKey(nil, kind, batch.Org, parent, name))
			fail(err)
			return string(id)
		})
		puts, raise, err := v.Check(func(keyID string) bool {
			org, err := tabKeys.get(tx, []byte(keyID))
			fail(err)
			return org != nil
		})
		if failed != nil {
			return failed // whatever else is wrong follows from it
		}
		if err != nil {
			return err
		}
		p.puts = puts
		latest := map[string]*saccount.Record{}
		for i := range puts {
			k := string(recordKey(nil, puts[i].Kind, batch.Org, puts[i].ID))
			old, seen := latest[k]
			if !seen {
				old = get(puts[i].Kind, puts[i].ID)
			}
			p.old = append(p.old, old)
			// A number of 0 is written too: what is there is found faster.
			p.raise = p.raise || raise || old == nil && puts[i].Kind == saccount.KindOrg
			latest[k] = &puts[i]
		}
		if failed == nil {
			p.settings, failed = s.settings(tx, batch.Org)
		}
		if raise {
			p.settings++
		}
		if failed == nil {
			failed = s.planAudit(tx, batch, p)
		}
		if failed == nil {
			failed = s.planPosts(tx, batch, p)
		}
		return failed
	})
	return p, err
}

// putPlan writes what was decided.
func putPlan(tx *bbolt.Tx, batch *saccount.Batch, p *plan) error {
	for i := range p.puts {
		if err := putRecord(tx, &p.puts[i], p.old[i]); err != nil {
			return err
		}
	}
	if p.raise {
		if err := tabSettings.put(tx, appendPart(nil, batch.Org), binary.AppendUvarint(nil, uint64(p.settings))); err != nil {
			return err
		}
	}
	if err := putAudit(tx, batch, p); err != nil {
		return err
	}
	return putPosts(tx, batch.Org, p.posts)
}

func putRecord(tx *bbolt.Tx, r, old *saccount.Record) error {
	named := func(r *saccount.Record) bool { return r.Deleted.IsZero() && r.Name != "" && r.Kind.UniqueNames() }
	if old != nil && named(old) && (!named(r) || r.Name != old.Name || r.Parent != old.Parent) {
		// Only where it is still this record's: a change before it in the batch
		// may have given the name on.
		key := nameKey(nil, old.Kind, old.Org, old.Parent, old.Name)
		names, err := tabNames.bucket(tx)
		if err != nil {
			return err
		}
		if v := names.Get(key); v != nil && bytes.Equal(v[:max(0, len(v)-sumLen)], []byte(r.ID)) {
			if err := names.Delete(key); err != nil {
				return err
			}
		}
	}
	if named(r) {
		if err := tabNames.put(tx, nameKey(nil, r.Kind, r.Org, r.Parent, r.Name), []byte(r.ID)); err != nil {
			return err
		}
	}
	was, is := stateIn(old), stateIn(r)
	if was != is && was != 0 {
		if err := tabStates.delete(tx, stateKey(nil, was, old)); err != nil {
			return err
		}
	}
	if was != is && is != 0 {
		if err := tabStates.put(tx, stateKey(nil, is, r), nil); err != nil {
			return err
		}
	}
	if r.Kind == saccount.KindRequest {
		if old != nil {
			if err := tabRequests.delete(tx, requestKey(nil, old)); err != nil {
				return err
			}
		}
		if err := tabRequests.put(tx, requestKey(nil, r), nil); err != nil {
			return err
		}
	}
	if r.Kind.FoundByID() && old == nil {
		if err := tabKeys.put(tx, []byte(r.ID), []byte(r.Org)); err != nil {
			return err
		}
	}
	if r.Kind == saccount.KindKey {
		if old != nil && old.Parent != r.Parent {
			if err := tabChildren.delete(tx, childKey(nil, old.Org, old.Parent, r.ID)); err != nil {
				return err
			}
		}
		if old == nil || old.Parent != r.Parent {
			if err := tabChildren.put(tx, childKey(nil, r.Org, r.Parent, r.ID), nil); err != nil {
				return err
			}
		}
	}
	return tabRecords.put(tx, recordKey(nil, r.Kind, r.Org, r.ID), appendRecord(make([]byte, 0, 128+len(r.Data)), r))
}

// Lookup implements saccount.Store, in one read transaction.
func (s *Store) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (l saccount.Lineage, err error) {
	if err := s.open(ctx, "lookup"); err != nil {
		return l, err
	}
	if !kind.Valid() {
		return l, fmt.Errorf("boltstore: lookup: %w kind %d", saccount.ErrInvalid, kind)
	}
	err = s.view(func(tx *snap) (err error) {
		l, err = s.lineage(tx, org, kind, id)
		return err
	})
	if err != nil {
		return saccount.Lineage{}, fmt.Errorf("boltstore: lookup: %s %q: %w", kind, id, err)
	}
	return l, nil
}

// Lookups implements saccount.Store, in one read transaction.
func (s *Store) Lookups(ctx context.Context, org string, kind saccount.Kind, ids []string) (out []saccount.Lineage, err error) {
	if err := s.open(ctx, "lookups"); err != nil {
		return nil, err
	}
	if err := saccount.CheckLookups(kind, len(ids)); err != nil {
		return nil, fmt.Errorf("boltstore: lookups: %w", err)
	}
	err = s.view(func(tx *snap) error {
		out = make([]saccount.Lineage, len(ids))
		for i, id := range ids {
			l, err := s.lineage(tx, org, kind, id)
			switch {
			case err == nil:
				out[i] = l
			case !errors.Is(err, saccount.ErrNotFound):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: lookups: %w", err)
	}
	return out, nil
}

func (s *Store) lineage(tx *snap, org string, kind saccount.Kind, id string) (l saccount.Lineage, err error) {
	if len(org) > maxID || len(id) > maxID || id == "" {
		return l, saccount.ErrNotFound
	}
	if kind.FoundByID() && org == "" {
		v, err := tabKeys.get(tx, []byte(id))
		if err != nil {
			return l, err
		}
		org = string(v)
	}
	if kind == saccount.KindOrg && org != id || org == "" {
		return l, saccount.ErrNotFound
	}
	r, err := s.record(tx, kind, org, id)
	if err != nil {
		return l, err
	}
	if r == nil {
		return l, saccount.ErrNotFound
	}
	l.Record = *r
	if l.Settings, err = s.settings(tx, org); err != nil || kind == saccount.KindOrg {
		return l, err
	}
	if kind.FoundByID() {
		if l.Record.Use, err = s.use(tx, id); err != nil {
			return l, err
		}
	}
	if kind == saccount.KindKey {
		if l.Account, err = s.above(tx, saccount.KindAccount, org, r.Parent); err != nil {
			return l, err
		}
	}
	if org != saccount.HostPartition {
		l.Org, err = s.above(tx, saccount.KindOrg, org, org)
	}
	return l, err
}

// above is a record that must be there.
func (s *Store) above(tx *snap, kind saccount.Kind, org, id string) (*saccount.Record, error) {
	r, err := s.record(tx, kind, org, id)
	if r == nil && err == nil {
		err = fmt.Errorf("%w: %s %q above it is missing", quota.ErrCorrupt, kind, id)
	}
	return r, err
}
