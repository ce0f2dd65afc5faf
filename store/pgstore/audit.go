package pgstore

import (
	"context"
	"database/sql"

	"github.com/keypurse/keypurse/saccount"
)

// writeAudit appends a batch's audit entries and cuts what it cuts, under the
// organization's lock.
func (s *Store) writeAudit(rd reader, t *tx, batch *saccount.Batch) error {
	if len(batch.Audit) == 0 && batch.Cut == nil {
		return nil
	}
	// Asked in a statement of its own: one that waited for the lock sees other
	// tables as they were before it waited.
	cut, head, err := s.ends(func(scan func(*sql.Rows) error) error {
		return rd.each(s, s.sql.ends, []any{batch.Org}, scan)
	})
	if err != nil {
		return err
	}
	if c := batch.Cut; c != nil {
		var last *saccount.Entry
		err := rd.each(s, s.sql.entryAt, []any{batch.Org, c.Through}, func(rows *sql.Rows) error {
			e, err := scanEntry(rows)
			last = &e
			return err
		})
		if err != nil {
			return err
		}
		if err := batch.CheckCut(cut, last); err != nil {
			return err
		}
		if _, err := t.exec(rd.ctx, s.sql.dropAudit, batch.Org, c.Through); err != nil {
			return err
		}
		if _, err := t.exec(rd.ctx, s.sql.putCut, batch.Org, c.Through, c.Mark, []byte(c.Seal)); err != nil {
			return err
		}
	}
	if len(batch.Audit) == 0 {
		return nil
	}
	var seq, at ints
	var data blobs
	var mark texts
	for _, e := range batch.Sealed(head) {
		seq.add(e.Seq)
		at.time(e.At)
		data.add(e.Data)
		mark.add(e.Mark)
	}
	_, err = t.exec(rd.ctx, s.sql.putAudit, batch.Org, seq.String(), at.String(), data.String(), mark.String())
	return err
}

// ends reads what was cut and where the log ends. The number of the last entry
// is the one in orgs: where that row is gone, what follows has no mark to stand
// on, and Service.Verify says so.
func (s *Store) ends(ask func(scan func(*sql.Rows) error) error) (cut saccount.Cut, head saccount.Head, err error) {
	err = ask(func(rows *sql.Rows) error {
		cut, head = saccount.Cut{}, saccount.Head{}
		var through sql.NullInt64
		var cutMark, mark sql.NullString
		var seal []byte
		if err := rows.Scan(&through, &cutMark, &seal, &head.Seq, &mark); err != nil {
			return err
		}
		cut, head.Mark = saccount.Cut{Through: through.Int64, Mark: cutMark.String, Seal: string(seal)}, mark.String
		if !mark.Valid && head.Seq == cut.Through {
			head.Mark = cut.Mark
		}
		return nil
	})
	return cut, head, err
}

func scanEntry(rows *sql.Rows) (e saccount.Entry, err error) {
	var at sql.NullInt64
	err = rows.Scan(&e.Seq, &at, &e.Data, &e.Mark)
	e.At = instant(at)
	return e, err
}

// Audit implements saccount.Store.
func (s *Store) Audit(ctx context.Context, org string, after int64, n int) (out []saccount.Entry, err error) {
	ctx, end, err := s.enter(ctx, "audit")
	if err != nil {
		return nil, err
	}
	defer end()
	if checkText("organization", org) != nil {
		return nil, nil
	}
	err = s.read(ctx, "audit", func() error {
		var got []saccount.Entry
		err := s.each(ctx, s.db.DB, nil, s.sql.audit, []any{org, max(after, 0), max(n, 0)}, func(rows *sql.Rows) error {
			e, err := scanEntry(rows)
			got = append(got, e)
			return err
		})
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

// AuditEnds implements saccount.Store.
func (s *Store) AuditEnds(ctx context.Context, org string) (cut saccount.Cut, head saccount.Head, err error) {
	ctx, end, err := s.enter(ctx, "audit ends")
	if err != nil {
		return cut, head, err
	}
	defer end()
	if checkText("organization", org) != nil {
		return cut, head, nil
	}
	err = s.read(ctx, "audit ends", func() (err error) {
		cut, head, err = s.ends(func(scan func(*sql.Rows) error) error {
			return s.each(ctx, s.db.DB, nil, s.sql.ends, []any{org}, scan)
		})
		return err
	})
	return cut, head, err
}
