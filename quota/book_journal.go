package quota

import (
	"container/heap"
	"slices"
)

// journal notes what a batch changed, to save it and to undo it.
type journal struct {
	epoch    uint32
	rows     []*Row              // changed or made, each once
	before   []Row               // the rows as they were; fresh where they were not there
	receipts map[string]*Receipt // as they were; nil where they were not there
	openings map[*subject]*opened
}

// Changes are what a batch changed in one Book: rows in no order, each once.
type Changes struct {
	Rows     []*Row
	Receipts []*Receipt
	Openings map[Subject][]Opening
	Alerts   []Alert
}

// Empty reports whether there is nothing to save.
func (c *Changes) Empty() bool {
	return len(c.Rows) == 0 && len(c.Receipts) == 0 && len(c.Openings) == 0 && len(c.Alerts) == 0
}

// Begin starts a batch: from here on changes are noted until Done or Rollback.
// A Book whose backend keeps everything in memory needs none of the three.
func (b *Book) Begin() {
	if b.journal == nil {
		b.journal = &journal{}
	}
	j := b.journal
	j.epoch++
	j.rows, j.before = j.rows[:0], j.before[:0]
	j.receipts, j.openings = nil, nil
}

// Changes are the batch's changes so far. The Rows are live: read them before
// the next Op.
func (b *Book) Changes() Changes {
	j := b.journal
	c := Changes{Rows: j.rows, Alerts: b.alerts}
	for id := range j.receipts {
		c.Receipts = append(c.Receipts, b.receipts[id])
	}
	if len(j.openings) > 0 {
		c.Openings = make(map[Subject][]Opening, len(j.openings))
		for s := range j.openings {
			c.Openings[s.id] = s.more.list
		}
	}
	return c
}

// Rollback undoes the batch: the Book stands as at Begin.
func (b *Book) Rollback() {
	j := b.journal
	for i, r := range j.rows {
		was := j.before[i]
		if was.fresh {
			b.remove(r)
			continue
		}
		dirty := r.Dirty
		*r = was
		r.Dirty = dirty
	}
	for id, was := range j.receipts {
		b.count(b.receipts[id], was)
		if was == nil {
			delete(b.receipts, id)
			continue
		}
		b.receipts[id] = was
		if was.Held() {
			heap.Push(&b.holds, holdEnd{was.Expires, id})
		}
	}
	for s, was := range j.openings {
		s.more = was
	}
	b.mark = nil
	b.alerts = nil
	b.Begin()
}

func (b *Book) remove(r *Row) {
	if i, ok := r.of.at(r.in.name, r.in.number, r.start); ok && r.of.rows[i] == r {
		r.of.rows = slices.Delete(r.of.rows, i, i+1)
		b.rows--
	}
}

// touch is called before every change of a row.
func (b *Book) touch(r *Row) {
	if j := b.journal; j != nil && r.touched != j.epoch {
		j.rows, j.before = append(j.rows, r), append(j.before, *r)
		r.touched = j.epoch
	}
}

// created notes a row that was not there before.
func (b *Book) created(r *Row) {
	if j := b.journal; j != nil {
		was := *r
		was.fresh = true
		j.rows, j.before = append(j.rows, r), append(j.before, was)
		r.touched = j.epoch
	}
}

// put sets a receipt.
func (b *Book) put(r *Receipt) {
	was := b.receipts[r.ID]
	if j := b.journal; j != nil {
		if j.receipts == nil {
			j.receipts = map[string]*Receipt{}
		}
		if _, ok := j.receipts[r.ID]; !ok {
			j.receipts[r.ID] = was
		}
	}
	b.count(was, r)
	b.receipts[r.ID] = r
	if r.Held() && (was == nil || !was.Held() || was.Expires != r.Expires) {
		heap.Push(&b.holds, holdEnd{r.Expires, r.ID})
	}
}

func (b *Book) count(was, is *Receipt) {
	if was != nil && was.Held() {
		b.open--
	}
	if is != nil && is.Held() {
		b.open++
	}
}

func (b *Book) setOpenings(sub *subject, o []Opening) {
	if j := b.journal; j != nil {
		if j.openings == nil {
			j.openings = map[*subject]*opened{}
		}
		if _, ok := j.openings[sub]; !ok {
			j.openings[sub] = sub.more
		}
	}
	sub.more = &opened{o}
}

// Restore puts stored state back into memory, as a backend does when it opens
// an organization: its open reservations, and whatever its journal holds that
// its checkpoint does not. Rows come back Dirty where dirty says so.
func (b *Book) Restore(id CounterID, c Counter, dirty bool) *Row {
	sub := b.subject(id.Subject)
	i, ok := sub.at(id.Series, id.Number, id.Start)
	if !ok {
		b.insert(&Row{start: id.Start, of: sub, in: b.kind(id.Series, id.Number)})
	}
	r := sub.rows[i]
	r.set(c)
	r.Dirty = r.Dirty || dirty
	b.mark = nil
	return r
}

// RestoreReceipt is Restore for a receipt.
func (b *Book) RestoreReceipt(r *Receipt) {
	b.count(b.receipts[r.ID], r)
	b.receipts[r.ID] = r
	if r.Held() {
		heap.Push(&b.holds, holdEnd{r.Expires, r.ID})
	}
}

// RestoreOpenings is Restore for a subject's openings.
func (b *Book) RestoreOpenings(s Subject, o []Opening) {
	b.subject(s).more = &opened{o}
}

// ForgetReceipt drops a receipt from memory that is saved and holds nothing;
// another stays, since its end must be known.
func (b *Book) ForgetReceipt(id string) {
	if r := b.receipts[id]; r != nil && !r.Held() {
		delete(b.receipts, id)
	}
}

// UnloadReceipt drops a receipt from memory whatever it holds: if it is Held, it
// is Elsewhere from then on, and its counters stay as they are. It is for what
// another process may have changed, between batches.
func (b *Book) UnloadReceipt(id string) {
	r := b.receipts[id]
	if r == nil {
		return
	}
	if r.Held() {
		b.open--
		b.Elsewhere++
	}
	delete(b.receipts, id)
}

// Holds reports whether the id's receipt is Held and in memory.
func (b *Book) Holds(id string) bool {
	r := b.receipts[id]
	return r != nil && r.Held()
}

// Receipts visits the receipts in memory, in no order.
func (b *Book) Receipts(fn func(*Receipt)) {
	for _, r := range b.receipts {
		fn(r)
	}
}

// Evict drops subjects from memory that have no Dirty row and were not used
// since the last Evict, until at most keep counters are left. It is for Books
// with a Loader, between batches.
func (b *Book) Evict(keep int) {
	if b.rows <= keep {
		return
	}
	for id, sub := range b.subjects {
		if sub.used {
			sub.used = false
			continue
		}
		b.drop(id, sub)
		if b.rows <= keep {
			break
		}
	}
	b.mark = nil
}

func (b *Book) drop(id Subject, sub *subject) {
	for _, r := range sub.rows {
		if r.Dirty {
			return
		}
	}
	b.rows -= len(sub.rows)
	delete(b.subjects, id)
}

// Row gives a counter that is in memory, or nil.
func (b *Book) Row(id CounterID) *Row {
	if sub := b.subjects[id.Subject]; sub != nil {
		if i, ok := sub.at(id.Series, id.Number, id.Start); ok {
			return sub.rows[i]
		}
	}
	return nil
}

// Remove drops a counter, as a purge or a fold does. It is Dirty no more.
func (b *Book) Remove(id CounterID) {
	sub := b.subjects[id.Subject]
	if sub == nil {
		return
	}
	if i, ok := sub.at(id.Series, id.Number, id.Start); ok {
		sub.rows[i].Dirty = false
		b.remove(sub.rows[i])
		b.mark = nil
	}
}
