package pgstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// maxText bounds ids, names and subjects: an index's row has about 2,700 bytes.
const maxText = 512

func valid(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func checkRecord(r *saccount.Record) error {
	for _, f := range [...]struct{ what, text string }{{"organization", r.Org}, {"id", r.ID}, {"parent", r.Parent}, {"name", r.Name}} {
		if err := checkText(f.what, f.text); err != nil {
			return err
		}
	}
	for k, v := range r.Labels {
		if !valid(k) || !valid(v) {
			return fmt.Errorf("%w label %q: not UTF-8, or with a zero byte", saccount.ErrInvalid, k)
		}
	}
	return nil
}

// raw is a record as its columns are.
type raw struct {
	org, id, parent, name     sql.NullString
	kind, revision            sql.NullInt64
	disabled                  sql.NullBool
	created, deleted, expires sql.NullInt64
	labels                    sql.NullString
	data                      []byte
	at                        int64
	addr                      string
}

func (w *raw) into() []any {
	return []any{&w.org, &w.kind, &w.id, &w.parent, &w.name, &w.disabled, &w.created, &w.deleted, &w.expires, &w.labels, &w.revision, &w.data}
}

// above is where to scan a record that stands above another, and nothing says
// that it is there but its revision.
func (w *raw) above() []any {
	return []any{&w.name, &w.disabled, &w.created, &w.deleted, &w.labels, &w.revision, &w.data}
}

// as makes w what above found of the record with this id.
func (w *raw) as(kind saccount.Kind, org, id string) *raw {
	if w.revision.Valid {
		w.org, w.id, w.kind = sql.NullString{String: org, Valid: true}, sql.NullString{String: id, Valid: true}, sql.NullInt64{Int64: int64(kind), Valid: true}
		if kind == saccount.KindAccount {
			w.parent.String = org
		}
	}
	return w
}

// record is nil where there was none.
func (w *raw) record() (*saccount.Record, error) {
	if !w.id.Valid {
		return nil, nil
	}
	r := &saccount.Record{
		Kind: saccount.Kind(w.kind.Int64), Org: w.org.String, ID: w.id.String, Parent: w.parent.String, Name: w.name.String, Disabled: w.disabled.Bool,
		Created: instant(w.created), Deleted: instant(w.deleted), Expires: instant(w.expires), Revision: w.revision.Int64, Data: w.data,
	}
	if w.labels.Valid {
		if err := json.Unmarshal([]byte(w.labels.String), &r.Labels); err != nil {
			return nil, fmt.Errorf("%w: the labels of %s %q", quota.ErrCorrupt, r.Kind, r.ID)
		}
	}
	if r.Kind.FoundByID() && w.at != 0 {
		r.Use = saccount.Use{At: quota.Time(w.at), Addr: w.addr}
	}
	return r, nil
}

func instant(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

func (a *ints) time(t time.Time) {
	if t.IsZero() {
		a.none()
	} else {
		a.add(t.UnixMicro())
	}
}

// Write implements saccount.Store, as one transaction under the organization's
// lock.
func (s *Store) Write(ctx context.Context, batch saccount.Batch) error {
	ctx, end, err := s.enter(ctx, "write")
	if err != nil {
		return err
	}
	defer end()
	if err := s.write(ctx, &batch); err != nil {
		return fmt.Errorf("pgstore: write: %w", err)
	}
	return nil
}

func (s *Store) write(ctx context.Context, batch *saccount.Batch) error {
	if err := checkText("organization", batch.Org); err != nil {
		return err
	}
	for i := range batch.Changes {
		if err := checkRecord(&batch.Changes[i].Record); err != nil {
			return err
		}
	}
	for i := range batch.Open {
		if err := checkOp(&quota.Op{Levels: []*quota.Level{{Subject: batch.Open[i].Subject, Limits: []quota.Entry{batch.Open[i].Entry}}}}); err != nil {
			return err
		}
	}
	for i := range batch.Alerts {
		if err := checkPost(&batch.Alerts[i].Alert); err != nil {
			return err
		}
	}
	defer s.forget(batch.Org)
	var sent []int64
	return s.persist(ctx, "write", func() error {
		id, err := s.writeOnce(ctx, batch, sent)
		if id != 0 {
			sent = append(sent, id)
		}
		if state(err) == "23505" { // another organization took the key's id meanwhile
			return fmt.Errorf("id: %w: %w", saccount.ErrExists, err)
		}
		return err
	})
}

// writeOnce is one attempt. unsure is its token where its outcome is open.
func (s *Store) writeOnce(ctx context.Context, batch *saccount.Batch, sent []int64) (unsure int64, err error) {
	b := s.newBook(batch.Org)
	if err := s.ensure(ctx, []*book{b}); err != nil {
		return 0, err
	}
	t, err := s.tx(ctx, readCommitted)
	if err != nil {
		return 0, err
	}
	done := false
	defer func() {
		if !done {
			t.end(ctx, err)
		}
	}()
	rd := reader{ctx, t.Tx, t.undo}
	if err := s.lockOrg(rd, b); err != nil {
		return 0, err
	}
	if len(sent) > 0 {
		was, err := s.wrote(rd, sent)
		if err != nil || was {
			return 0, err
		}
	}
	puts, raise, err := s.plan(rd, batch)
	if err != nil {
		return 0, err
	}
	if err := s.putRecords(ctx, t, batch.Org, puts); err != nil {
		return 0, err
	}
	if len(batch.Open) > 0 {
		if err := s.openCounters(ctx, t, b, batch); err != nil {
			return 0, err
		}
	}
	if err := s.writeAudit(rd, t, batch); err != nil {
		return 0, err
	}
	if len(batch.Alerts) > 0 {
		if err := s.postAlerts(ctx, t, batch); err != nil {
			return 0, err
		}
	}
	var change sql.NullInt64
	if len(batch.Changes) > 0 {
		if err := t.each(ctx, s.sql.change, nil, func(rows *sql.Rows) error { return rows.Scan(&change) }); err != nil {
			return 0, err
		}
	}
	raised := 0
	if raise {
		raised = 1
	}
	id := token()
	if _, err := t.exec(ctx, s.sql.wrote, batch.Org, raised, len(batch.Audit), change, id); err != nil {
		return 0, err
	}
	done = true
	if err := t.commit(ctx); err != nil {
		if sure(err) {
			id = 0
		}
		return id, err
	}
	return 0, nil
}

// lockOrg locks the organization.
func (s *Store) lockOrg(rd reader, b *book) error {
	var version, settings, holds, last int64
	n := 0
	var org texts
	org.add(b.id)
	err := rd.each(s, s.sql.lock, []any{org.String()}, func(rows *sql.Rows) error {
		var id string
		var x, y sql.NullString
		n++
		return rows.Scan(&id, &version, &settings, &holds, &last, &x, &y)
	})
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("%w: organization %q has %d rows", quota.ErrCorrupt, b.id, n)
	}
	b.version, b.Settings, b.Elsewhere = version, settings, int(holds)
	if holds > 0 {
		b.soon = -never
	}
	return nil
}

// wrote reports whether a batch with one of the tokens was committed.
func (s *Store) wrote(rd reader, tokens []int64) (bool, error) {
	var a ints
	for _, t := range tokens {
		a.add(t)
	}
	n := 0
	err := rd.each(s, s.sql.posted, []any{a.String()}, func(*sql.Rows) error { n++; return nil })
	if err != nil {
		return false, err
	}
	return n > 0, nil
}

// plan checks the changes against the records as they stand.
func (s *Store) plan(rd reader, batch *saccount.Batch) (puts []saccount.Record, raise bool, err error) {
	type place struct {
		kind saccount.Kind
		id   string
	}
	type called struct {
		kind         saccount.Kind
		parent, name string
	}
	var kinds, nameKinds ints
	var ids, parents, names, keys texts
	seen := map[place]bool{}
	need := func(kind saccount.Kind, id string) {
		if p := (place{kind, id}); !seen[p] {
			seen[p] = true
			kinds.add(int64(kind))
			ids.add(id)
		}
	}
	need(saccount.KindOrg, batch.Org)
	fresh := 0
	for i := range batch.Changes {
		r := &batch.Changes[i].Record
		need(r.Kind, r.ID)
		if r.Kind == saccount.KindKey {
			need(saccount.KindAccount, r.Parent)
		}
		if r.Kind.FoundByID() && r.Revision == 0 {
			keys.add(r.ID)
			fresh++
		}
		if r.Kind.UniqueNames() && r.Name != "" {
			nameKinds.add(int64(r.Kind))
			parents.add(r.Parent)
			names.add(r.Name)
		}
	}
	records, err := s.scanRecords(rd, s.sql.records, []any{batch.Org, kinds.String(), ids.String()})
	if err != nil {
		return nil, false, err
	}
	there := map[place]*saccount.Record{}
	for _, r := range records {
		there[place{r.Kind, r.ID}] = r
	}
	holders := map[called]string{}
	if len(names.b) > 0 {
		err = rd.each(s, s.sql.names, []any{batch.Org, nameKinds.String(), parents.String(), names.String()}, func(rows *sql.Rows) error {
			var c called
			var id string
			err := rows.Scan(&c.kind, &c.parent, &c.name, &id)
			holders[c] = id
			return err
		})
		if err != nil {
			return nil, false, err
		}
	}
	taken := map[string]bool{}
	if fresh > 0 {
		err = rd.each(s, s.sql.keyIDs, []any{keys.String()}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			taken[id] = true
			return err
		})
		if err != nil {
			return nil, false, err
		}
	}
	v := saccount.NewBatchView(batch,
		func(kind saccount.Kind, id string) *saccount.Record { return there[place{kind, id}] },
		func(kind saccount.Kind, parent, name string) string { return holders[called{kind, parent, name}] })
	return v.Check(func(id string) bool { return taken[id] })
}

func (s *Store) scanRecords(rd reader, text string, args []any) ([]*saccount.Record, error) {
	var out []*saccount.Record
	err := rd.each(s, text, args, func(rows *sql.Rows) error {
		var w raw
		if err := rows.Scan(append(w.into(), &w.at, &w.addr)...); err != nil {
			return err
		}
		r, err := w.record()
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// putRecords writes the records as the last of their changes leaves them. Those
// that give up a name go before those that take it.
func (s *Store) putRecords(ctx context.Context, t *tx, org string, puts []saccount.Record) error {
	type place struct {
		kind saccount.Kind
		id   string
	}
	last := map[place]int{}
	for i := range puts {
		last[place{puts[i].Kind, puts[i].ID}] = i
	}
	var ends, starts []saccount.Record // of a name
	for i := range puts {
		if r := puts[i]; last[place{r.Kind, r.ID}] == i {
			starts = append(starts, r)
			if r.Revision > 1 && r.Kind.UniqueNames() {
				r.Name = ""
				ends = append(ends, r)
			}
		}
	}
	if len(ends) > 1 || len(ends) > 0 && len(starts) > len(ends) { // a name may go from one to another
		if err := s.putEach(ctx, t, org, ends); err != nil {
			return err
		}
	}
	return s.putEach(ctx, t, org, starts)
}

func (s *Store) putEach(ctx context.Context, t *tx, org string, puts []saccount.Record) error {
	if len(puts) == 0 {
		return nil
	}
	var kind, disabled, created, deleted, expires, revision ints
	var id, parent, name, labels texts
	var data blobs
	for i := range puts {
		r := &puts[i]
		kind.add(int64(r.Kind))
		id.add(r.ID)
		parent.add(r.Parent)
		name.add(r.Name)
		off := int64(0)
		if r.Disabled {
			off = 1
		}
		disabled.add(off)
		created.time(r.Created)
		deleted.time(r.Deleted)
		expires.time(r.Expires)
		if r.Labels == nil {
			labels.none()
		} else {
			text, err := json.Marshal(r.Labels)
			if err != nil {
				return err
			}
			labels.add(string(text))
		}
		revision.add(r.Revision)
		if r.Data == nil {
			data.none()
		} else {
			data.add(r.Data)
		}
	}
	_, err := t.exec(ctx, s.sql.putRecords, org, kind.String(), id.String(), parent.String(), name.String(), disabled.String(),
		created.String(), deleted.String(), expires.String(), labels.String(), revision.String(), data.String())
	return err
}

// openCounters opens the counters of limits that were set anew.
func (s *Store) openCounters(ctx context.Context, t *tx, b *book, batch *saccount.Batch) error {
	at := saccount.Micro(batch.At).UnixMicro()
	op := &quota.Op{At: at}
	for i := range batch.Open {
		o := &batch.Open[i]
		l := &quota.Level{Subject: o.Subject, Limits: []quota.Entry{o.Entry}, Bucket: math.MinInt64}
		if o.Was != nil {
			l.Limits = append(l.Limits, *o.Was)
		}
		op.Levels = append(op.Levels, l)
	}
	rd := reader{ctx, t.Tx, t.undo}
	b.ops, b.read = []*quota.Op{op}, rd
	if err := s.ahead(rd, []*book{b}, false); err != nil {
		return err
	}
	b.Begin()
	for i := range batch.Open {
		o := &batch.Open[i]
		err := b.Open(o.Subject, o.Entry, o.Was, at)
		if b.err != nil {
			err = b.err
		}
		if err != nil {
			return err
		}
	}
	p := gather([]*book{b})
	if !p.writes() {
		return nil
	}
	ok, err := s.post(ctx, rd, p, token())
	if err == nil && slices.Contains(ok, false) {
		err = fmt.Errorf("%w: organization %q moved under its lock", quota.ErrCorrupt, b.id)
	}
	if err == nil && p.rare() {
		err = s.postRare(ctx, t, p)
	}
	return err
}

// Touch implements saccount.Store.
func (s *Store) Touch(ctx context.Context, touches []saccount.Touch) error {
	ctx, end, err := s.enter(ctx, "touch")
	if err != nil {
		return err
	}
	defer end()
	type of struct{ org, key string }
	latest := map[of]saccount.Touch{} // one statement may put a row once
	for _, t := range touches {
		if err := checkText("key", t.Org+t.Key); err != nil {
			continue // there is no such key
		}
		k := of{t.Org, t.Key}
		if was, ok := latest[k]; !ok || was.Use.At.Before(t.Use.At) {
			latest[k] = t
		}
	}
	var org, key, addr texts
	var at ints
	for _, t := range latest {
		org.add(t.Org)
		key.add(t.Key)
		at.add(saccount.Micro(t.Use.At).UnixMicro())
		if !valid(t.Use.Addr) || len(t.Use.Addr) > maxText {
			t.Use.Addr = ""
		}
		addr.add(t.Use.Addr)
	}
	if len(latest) == 0 {
		return nil
	}
	return s.read(ctx, "touch", func() error {
		_, err := s.exec(ctx, s.db.DB, nil, s.sql.touch, org.String(), key.String(), at.String(), addr.String())
		return err
	})
}
