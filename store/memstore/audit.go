package memstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/keypurse/keypurse/saccount"
)

// after is where the entries with a number above seq begin.
func (o *org) after(seq int64) int {
	i, _ := slices.BinarySearchFunc(o.audit, seq, func(e saccount.Entry, seq int64) int { return cmp.Or(cmp.Compare(e.Seq, seq), -1) })
	return i
}

// entry is the last one that a batch wants cut, as it is kept; nil for none.
func (o *org) entry(b *saccount.Batch) *saccount.Entry {
	if b.Cut == nil {
		return nil
	}
	if i := o.after(b.Cut.Through - 1); i < len(o.audit) {
		return &o.audit[i]
	}
	return nil
}

// head is the last entry, or the last that was cut.
func (o *org) head() saccount.Head {
	if n := len(o.audit); n > 0 {
		return saccount.Head{Seq: o.audit[n-1].Seq, Mark: o.audit[n-1].Mark}
	}
	return saccount.Head{Seq: o.cut.Through, Mark: o.cut.Mark}
}

// log appends what a batch does to the audit log, and cuts what it cuts.
func (o *org) log(b *saccount.Batch) {
	o.audit = append(o.audit, b.Sealed(o.head())...)
	if b.Cut != nil {
		o.cut = *b.Cut
		o.audit = slices.Delete(o.audit, 0, o.after(o.cut.Through))
	}
}

// Audit implements saccount.Store.
func (s *Store) Audit(ctx context.Context, id string, after int64, n int) ([]saccount.Entry, error) {
	if err := s.begin(ctx, "audit"); err != nil {
		return nil, err
	}
	o := s.known(id)
	if o == nil {
		return nil, nil
	}
	o.Lock()
	defer o.Unlock()
	from := o.after(after)
	out := slices.Clone(o.audit[from:min(len(o.audit), from+max(n, 0))])
	for i := range out {
		out[i].Data = slices.Clone(out[i].Data)
	}
	return out, nil
}

// AuditEnds implements saccount.Store.
func (s *Store) AuditEnds(ctx context.Context, id string) (cut saccount.Cut, head saccount.Head, err error) {
	if err := s.begin(ctx, "audit ends"); err != nil {
		return cut, head, err
	}
	o := s.known(id)
	if o == nil {
		return cut, head, nil
	}
	o.Lock()
	defer o.Unlock()
	return o.cut, o.head(), nil
}
