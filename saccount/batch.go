package saccount

import (
	"fmt"
	"time"
)

// Micro is t as stores keep times: UTC, cut to microseconds.
func Micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Check refuses a query that no store can answer. Errors wrap ErrInvalid.
func (q *ListQuery) Check() error {
	switch {
	case !q.Kind.Valid():
		return fmt.Errorf("%w query: unknown kind %d", ErrInvalid, q.Kind)
	case q.Limit < 1 || q.Limit > MaxPage:
		return fmt.Errorf("%w query: a page of %d; give 1 to %d", ErrInvalid, q.Limit, MaxPage)
	case q.Org == "" && q.Kind != KindOrg:
		return fmt.Errorf("%w query: no organization", ErrInvalid)
	case q.ByName && (!q.Kind.UniqueNames() || q.Kind == KindKey && q.Parent == ""):
		return fmt.Errorf("%w query: only accounts, and the keys of one account, are listed by name", ErrInvalid)
	}
	return nil
}

// CheckLookups refuses a question to Store.Lookups that no store answers. The
// error wraps ErrInvalid.
func CheckLookups(kind Kind, n int) error {
	if !kind.Valid() {
		return fmt.Errorf("%w question: unknown kind %d", ErrInvalid, kind)
	}
	return checkMany(n)
}

// CheckCount refuses a question to Store.CountKeys that no store answers. The
// error wraps ErrInvalid.
func CheckCount(n, most int) error {
	if most < 1 {
		return fmt.Errorf("%w question: count at least 1 key", ErrInvalid)
	}
	return checkMany(n)
}

func checkMany(n int) error {
	if n > MaxPage {
		return fmt.Errorf("%w question: about %d at once; at most %d", ErrInvalid, n, MaxPage)
	}
	return nil
}

// Cursor is what After says to go on behind r: its id, or its name.
func (q *ListQuery) Cursor(r *Record) string {
	if q.ByName {
		return r.Name
	}
	return r.ID
}

// BatchView checks the changes of a Batch against the records as they stand,
// each seeing what those before it do: the one rule of Write, for every store.
type BatchView struct {
	batch *Batch
	get   func(kind Kind, id string) *Record
	named func(kind Kind, parent, name string) string
	puts  []Record
	last  map[recordID]int // the last of each record, among puts
	names map[name]string  // names as the changes so far leave them; "" is free
}

type recordID struct {
	kind Kind
	id   string
}

type name struct {
	kind         Kind
	parent, name string
}

// NewBatchView makes the view of b. get gives a stored record of b.Org, or nil.
// named gives the id of the living record that has a name, or "".
func NewBatchView(b *Batch, get func(kind Kind, id string) *Record, named func(kind Kind, parent, name string) string) *BatchView {
	return &BatchView{batch: b, get: get, named: named, last: map[recordID]int{}, names: map[name]string{}}
}

// Check gives the records to put, with their next revisions, and whether the
// settings number is raised. taken reports whether an id of a kind that is
// FoundByID is used anywhere.
// Errors are those of Store.Write.
func (v *BatchView) Check(taken func(keyID string) bool) (puts []Record, raise bool, err error) {
	if v.batch.Org == "" {
		return nil, false, fmt.Errorf("%w batch: no organization", ErrInvalid)
	}
	for i := range v.batch.Changes {
		c := &v.batch.Changes[i]
		if err := v.check(&c.Record, taken); err != nil {
			return nil, false, fmt.Errorf("%s %q: %w", c.Record.Kind, c.Record.ID, err)
		}
		raise = raise || !c.Quiet
	}
	return v.puts, raise, nil
}

func (v *BatchView) check(in *Record, taken func(string) bool) error {
	r := in.Clone()
	r.Created, r.Deleted, r.Expires, r.Use = Micro(r.Created), Micro(r.Deleted), Micro(r.Expires), Use{}
	if !r.Kind.Valid() || r.ID == "" || r.Org != v.batch.Org || r.Kind == KindOrg && r.ID == HostPartition {
		return fmt.Errorf("%w record: it needs a kind, an id and the batch's organization", ErrInvalid)
	}
	old := v.record(r.Kind, r.ID)
	switch {
	case r.Revision == 0 && (old != nil || r.Kind.FoundByID() && taken(r.ID)):
		return fmt.Errorf("id: %w; ids are never used again", ErrExists)
	case r.Revision != 0 && old == nil:
		return ErrNotFound
	case r.Revision != 0 && old.Revision != r.Revision:
		return fmt.Errorf("%w: it is at revision %d, not %d", ErrConflict, old.Revision, r.Revision)
	}
	living := r.Deleted.IsZero()
	if living && !v.parentLives(&r) {
		return fmt.Errorf("its parent %q: %w", r.Parent, ErrNotFound)
	}
	if living && r.Name != "" && r.Kind.UniqueNames() {
		if id := v.holder(r.Kind, r.Parent, r.Name); id != "" && id != r.ID {
			return fmt.Errorf("name %q: %w", r.Name, ErrExists)
		}
	}
	if old != nil && old.Deleted.IsZero() && old.Name != "" {
		v.names[name{old.Kind, old.Parent, old.Name}] = ""
	}
	if living && r.Name != "" && r.Kind.UniqueNames() {
		v.names[name{r.Kind, r.Parent, r.Name}] = r.ID
	}
	r.Revision++
	v.last[recordID{r.Kind, r.ID}] = len(v.puts)
	v.puts = append(v.puts, r)
	return nil
}

func (v *BatchView) record(kind Kind, id string) *Record {
	if i, ok := v.last[recordID{kind, id}]; ok {
		return &v.puts[i]
	}
	return v.get(kind, id)
}

func (v *BatchView) holder(kind Kind, parent, n string) string {
	if id, ok := v.names[name{kind, parent, n}]; ok {
		return id
	}
	return v.named(kind, parent, n)
}

func (v *BatchView) parentLives(r *Record) bool {
	var p *Record
	switch r.Kind {
	case KindOrg:
		return r.Parent == "" && r.ID == r.Org
	case KindRequest:
		return r.Parent == r.Org // it outlives what it did
	case KindAccount, KindMember, KindManagementKey:
		if r.Parent != r.Org {
			return false
		}
		if r.Kind == KindManagementKey && r.Org == HostPartition {
			return true
		}
		p = v.record(KindOrg, r.Org)
	case KindKey:
		if p = v.record(KindAccount, r.Parent); p != nil && p.Deleted.IsZero() {
			p = v.record(KindOrg, r.Org)
		}
	}
	return p != nil && p.Deleted.IsZero()
}
