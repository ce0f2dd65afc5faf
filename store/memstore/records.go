package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/keypurse/keypurse/saccount"
)

// table is the records of one kind in one organization.
type table struct {
	byID    map[string]*saccount.Record
	sorted  []*saccount.Record           // by id
	parents map[string]map[string]string // parent -> name -> id, of the living
}

func (t *table) put(r *saccount.Record) {
	if t.byID == nil {
		t.byID, t.parents = map[string]*saccount.Record{}, map[string]map[string]string{}
	}
	if old := t.byID[r.ID]; old != nil {
		if old.Deleted.IsZero() && old.Name != "" {
			delete(t.parents[old.Parent], old.Name)
		}
	}
	i, found := slices.BinarySearchFunc(t.sorted, r.ID, func(x *saccount.Record, id string) int { return cmp.Compare(x.ID, id) })
	if found {
		t.sorted[i] = r
	} else {
		t.sorted = slices.Insert(t.sorted, i, r)
	}
	t.byID[r.ID] = r
	if r.Deleted.IsZero() && r.Name != "" && r.Kind.UniqueNames() {
		if t.parents[r.Parent] == nil {
			t.parents[r.Parent] = map[string]string{}
		}
		t.parents[r.Parent][r.Name] = r.ID
	}
}

// drop removes a record that has no name.
func (t *table) drop(id string) {
	delete(t.byID, id)
	t.sorted = slices.DeleteFunc(t.sorted, func(r *saccount.Record) bool { return r.ID == id })
}

// Write implements saccount.Store.
func (s *Store) Write(ctx context.Context, b saccount.Batch) error {
	if err := s.begin(ctx, "write"); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	o := s.org(b.Org)
	o.Lock()
	defer o.Unlock()
	// All is checked on a view of what the changes before would leave, then done.
	v := saccount.NewBatchView(&b, func(kind saccount.Kind, id string) *saccount.Record { return o.kinds[kind].byID[id] },
		func(kind saccount.Kind, parent, name string) string { return o.kinds[kind].parents[parent][name] })
	puts, raise, err := v.Check(func(id string) bool {
		_, taken := s.keys.Load(id)
		return taken
	})
	if err != nil {
		return fmt.Errorf("memstore: write: %w", err)
	}
	if err := b.CheckCut(o.cut, o.entry(&b)); err != nil {
		return fmt.Errorf("memstore: write: %w", err)
	}
	at := saccount.Micro(b.At)
	for _, op := range b.Open {
		if err := o.Book.Open(op.Subject, op.Entry, op.Was, at.UnixMicro()); err != nil {
			return fmt.Errorf("memstore: write: %w", err)
		}
	}
	for i := range puts {
		r := puts[i]
		o.kinds[r.Kind].put(&r)
		if r.Kind.FoundByID() {
			s.keys.Store(r.ID, o)
		}
	}
	if raise {
		o.Book.Settings++
	}
	o.log(&b)
	alerts := o.Book.TakeAlerts()
	for i := range b.Alerts {
		p := &b.Alerts[i]
		if p.Alert.ID != "" {
			if _, ok := o.posts[p.Alert.ID]; ok {
				continue
			}
			o.posts[p.Alert.ID] = p.Keep
		}
		if !p.Quiet {
			a := p.Alert
			a.Org = b.Org
			alerts = append(alerts, a)
		}
	}
	s.post(alerts)
	return nil
}

// Lookup implements saccount.Store.
func (s *Store) Lookup(ctx context.Context, id string, kind saccount.Kind, rec string) (l saccount.Lineage, err error) {
	if err := s.begin(ctx, "lookup"); err != nil {
		return l, err
	}
	if !kind.Valid() {
		return l, fmt.Errorf("memstore: lookup: %w kind %d", saccount.ErrInvalid, kind)
	}
	var o *org
	if id == "" && kind.FoundByID() {
		if x, ok := s.keys.Load(rec); ok {
			o = x.(*org)
		}
	} else {
		o = s.known(id)
	}
	if o == nil {
		return l, notFound(kind, rec)
	}
	o.Lock()
	defer o.Unlock()
	r := o.kinds[kind].byID[rec]
	if r == nil {
		return l, notFound(kind, rec)
	}
	l.Record, l.Settings = o.clone(r), o.Book.Settings
	if kind == saccount.KindOrg {
		return l, nil
	}
	if kind == saccount.KindKey {
		a := o.clone(o.kinds[saccount.KindAccount].byID[r.Parent])
		l.Account = &a
	}
	if r := o.kinds[saccount.KindOrg].byID[o.id]; r != nil { // the host's partition has none
		g := o.clone(r)
		l.Org = &g
	}
	return l, nil
}

func notFound(kind saccount.Kind, id string) error {
	return fmt.Errorf("memstore: lookup: %s %q: %w", kind, id, saccount.ErrNotFound)
}

func (o *org) clone(r *saccount.Record) saccount.Record {
	c := r.Clone()
	if r.Kind.FoundByID() {
		c.Use = o.uses[r.ID]
	}
	return c
}

// List implements saccount.Store.
func (s *Store) List(ctx context.Context, q saccount.ListQuery) (page []saccount.Record, more bool, err error) {
	if err := s.begin(ctx, "list"); err != nil {
		return nil, false, err
	}
	if err := q.Check(); err != nil {
		return nil, false, fmt.Errorf("memstore: list: %w", err)
	}
	var all []saccount.Record
	add := func(o *org) {
		o.Lock()
		defer o.Unlock()
		t := &o.kinds[q.Kind]
		from := 0
		if !q.ByName {
			from, _ = slices.BinarySearchFunc(t.sorted, q.After, func(x *saccount.Record, id string) int { return cmp.Compare(x.ID, id) })
		}
		for _, r := range t.sorted[from:] {
			if q.Parent != "" && r.Parent != q.Parent || q.ByName && !r.Deleted.IsZero() || q.Cursor(r) <= q.After || !q.Match(r) {
				continue
			}
			if all = append(all, o.clone(r)); !q.ByName && q.Org != "" && len(all) > q.Limit {
				return
			}
		}
	}
	if q.Org != "" {
		if o := s.known(q.Org); o != nil {
			add(o)
		}
	} else {
		s.orgs.Range(func(_, o any) bool { add(o.(*org)); return true })
	}
	slices.SortFunc(all, func(a, b saccount.Record) int {
		return cmp.Or(cmp.Compare(q.Cursor(&a), q.Cursor(&b)), cmp.Compare(a.ID, b.ID))
	})
	if len(all) > q.Limit {
		return all[:q.Limit], true, nil
	}
	return all, false, nil
}
