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
	byID     map[string]*saccount.Record
	all      order
	families map[string]*family // by parent
}

// family is the records of one parent.
type family struct {
	all    order
	names  map[string]string  // name -> id, of the living, where they are unique
	byName []*saccount.Record // those, in order; nil: to be made anew
}

// order is records by id.
type order []*saccount.Record

func (o order) find(id string) (int, bool) {
	return slices.BinarySearchFunc(o, id, func(r *saccount.Record, id string) int { return cmp.Compare(r.ID, id) })
}

func (o *order) put(r *saccount.Record) {
	if i, found := o.find(r.ID); found {
		(*o)[i] = r
	} else {
		*o = slices.Insert(*o, i, r)
	}
}

func (o *order) drop(id string) {
	if i, found := o.find(id); found {
		*o = slices.Delete(*o, i, i+1)
	}
}

// of is the records of a parent.
func (t *table) of(parent string) *family {
	if f := t.families[parent]; f != nil {
		return f
	}
	return &family{}
}

// inNames are the living of a parent by name.
func (t *table) inNames(f *family) []*saccount.Record {
	if f.byName == nil {
		for _, id := range f.names {
			f.byName = append(f.byName, t.byID[id])
		}
		slices.SortFunc(f.byName, func(a, b *saccount.Record) int { return cmp.Compare(a.Name, b.Name) })
	}
	return f.byName
}

func (t *table) put(r *saccount.Record) {
	if t.byID == nil {
		t.byID, t.families = map[string]*saccount.Record{}, map[string]*family{}
	}
	named := func(r *saccount.Record) bool { return r.Deleted.IsZero() && r.Name != "" && r.Kind.UniqueNames() }
	if old := t.byID[r.ID]; old != nil {
		f := t.families[old.Parent]
		if named(old) && f.names[old.Name] == old.ID {
			delete(f.names, old.Name)
		}
		f.byName = nil
		if old.Parent != r.Parent {
			f.all.drop(old.ID)
		}
	}
	f := t.families[r.Parent]
	if f == nil {
		f = &family{names: map[string]string{}}
		t.families[r.Parent] = f
	}
	t.byID[r.ID] = r
	t.all.put(r)
	f.all.put(r)
	if named(r) {
		f.names[r.Name], f.byName = r.ID, nil
	}
}

// drop removes a record that has no name.
func (t *table) drop(id string) {
	if r := t.byID[id]; r != nil {
		delete(t.byID, id)
		t.all.drop(id)
		t.families[r.Parent].all.drop(id)
	}
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
		func(kind saccount.Kind, parent, name string) string { return o.kinds[kind].of(parent).names[name] })
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
	if l = o.lineage(kind, rec); l.Record.ID == "" {
		return l, notFound(kind, rec)
	}
	return l, nil
}

// Lookups implements saccount.Store.
func (s *Store) Lookups(ctx context.Context, id string, kind saccount.Kind, ids []string) ([]saccount.Lineage, error) {
	if err := s.begin(ctx, "lookups"); err != nil {
		return nil, err
	}
	if err := saccount.CheckLookups(kind, len(ids)); err != nil {
		return nil, fmt.Errorf("memstore: lookups: %w", err)
	}
	out := make([]saccount.Lineage, len(ids))
	if o := s.known(id); o != nil {
		o.Lock()
		defer o.Unlock()
		for i, rec := range ids {
			out[i] = o.lineage(kind, rec)
		}
	}
	return out, nil
}

// lineage is a record with what stands above it; zero where it is not there.
func (o *org) lineage(kind saccount.Kind, id string) (l saccount.Lineage) {
	r := o.kinds[kind].byID[id]
	if r == nil {
		return l
	}
	l.Record, l.Settings = o.clone(r), o.Book.Settings
	if kind == saccount.KindOrg {
		return l
	}
	if kind == saccount.KindKey {
		a := o.clone(o.kinds[saccount.KindAccount].byID[r.Parent])
		l.Account = &a
	}
	if r := o.kinds[saccount.KindOrg].byID[o.id]; r != nil { // the host's partition has none
		g := o.clone(r)
		l.Org = &g
	}
	return l
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
	if q.Org == "" { // every organization: each is alone in its partition
		var all order
		s.orgs.Range(func(_, x any) bool {
			o := x.(*org)
			o.Lock()
			defer o.Unlock()
			if r := o.kinds[q.Kind].byID[o.id]; r != nil {
				c := o.clone(r)
				all = append(all, &c)
			}
			return true
		})
		slices.SortFunc(all, func(a, b *saccount.Record) int { return cmp.Compare(a.ID, b.ID) })
		page, more = pageOf(&q, all, (*saccount.Record).Clone)
		return page, more, nil
	}
	o := s.known(q.Org)
	if o == nil {
		return nil, false, nil
	}
	o.Lock()
	defer o.Unlock()
	t := &o.kinds[q.Kind]
	all := t.all
	switch {
	case q.ByName:
		all = t.inNames(t.of(cmp.Or(q.Parent, q.Org)))
	case q.Parent != "":
		all = t.of(q.Parent).all
	}
	page, more = pageOf(&q, all, o.clone)
	return page, more, nil
}

// pageOf is a page of records that stand in the order of the query.
func pageOf(q *saccount.ListQuery, all order, clone func(*saccount.Record) saccount.Record) (page []saccount.Record, more bool) {
	from, found := slices.BinarySearchFunc(all, q.After, func(r *saccount.Record, after string) int { return cmp.Compare(q.Cursor(r), after) })
	if found {
		from++
	}
	for _, r := range all[from:] {
		if !q.Match(r) {
			continue
		}
		if len(page) == q.Limit {
			return page, true
		}
		page = append(page, clone(r))
	}
	return page, false
}

// CountKeys implements saccount.Store.
func (s *Store) CountKeys(ctx context.Context, id string, accounts []string, most int) ([]saccount.KeyCount, error) {
	if err := s.begin(ctx, "count keys"); err != nil {
		return nil, err
	}
	if err := saccount.CheckCount(len(accounts), most); err != nil {
		return nil, fmt.Errorf("memstore: count keys: %w", err)
	}
	out := make([]saccount.KeyCount, len(accounts))
	o := s.known(id)
	if o == nil {
		return out, nil
	}
	o.Lock()
	defer o.Unlock()
	for i, a := range accounts {
		c := &out[i]
		for _, r := range o.kinds[saccount.KindKey].of(a).all {
			if !r.Deleted.IsZero() {
				continue
			}
			if c.Keys == most {
				c.More = true
				break
			}
			c.Keys++
			if at := o.uses[r.ID].At; at.After(c.LastUsed) {
				c.LastUsed = at
			}
		}
	}
	return out, nil
}
