package pgstore

import (
	"context"
	"database/sql"

	"github.com/keypurse/keypurse/quota"
)

// posting is what a batch changed, as the parameters of the statement that
// writes it.
type posting struct {
	books   []*book
	changes []changes

	org                                                       texts
	version, writing, holds                                   ints
	at, number, start, used, held, overage, requests, maximum ints
	ends                                                      ints
	bucket, bucketUsed, bucketHeld, bucketRequests, moving    ints
	bucketRare                                                texts
	subject, series, rareText                                 texts
	rat, keep, expires                                        ints
	id                                                        texts
	body                                                      blobs
	place                                                     texts
	mat, part, parts                                          ints
	newAt, newStart                                           ints
	newSubject                                                texts
	move                                                      blobs
	alerts, openings                                          int
}

type changes struct {
	quota.Changes
	writes bool
	homes  []*quota.Home // that are written
	first  int           // the number of the first of its homes in the statement, from 1
}

// gather collects what was changed in the books. Where other processes write too,
// they are told of it.
func gather(books []*book) *posting {
	p := &posting{books: books, changes: make([]changes, len(books))}
	var room []byte
	n := 1
	for i, b := range books {
		c := &p.changes[i]
		c.Changes = b.Changes()
		c.writes = !c.Empty()
		at := int64(i + 1)
		b.house()
		moving := b.settle(c.Rows)
		c.homes = b.homes(c.Rows)
		c.first = n
		n += len(c.homes)
		for k, h := range c.homes {
			room = p.counter(at, h, room)
			if moving[h] {
				p.moving.add(int64(c.first + k))
			}
		}
		for _, r := range c.Receipts {
			p.rat.add(at)
			p.id.add(r.ID)
			p.keep.add(r.Keep)
			if r.Held() {
				p.expires.add(r.Expires)
			} else {
				p.expires.none()
			}
			room = quota.AppendReceipt(room[:0], r)
			p.body.add(room)
		}
		p.alerts += len(c.Alerts)
		p.openings += len(c.Openings)
		for _, id := range b.view.fresh {
			p.newAt.add(at)
			p.newSubject.add(string(id.Subject))
			p.newStart.add(id.Start)
		}
		if b.contended > 0 {
			p.tell(at, c)
		}
	}
	return p
}

// counter adds a stored row of the organization at, and gives back the room that
// it took for texts.
func (p *posting) counter(at int64, h *quota.Home, room []byte) []byte {
	r := named(h)
	id, k := r.ID(), r.Counter()
	p.at.add(at)
	p.subject.add(string(id.Subject))
	p.number.add(int64(id.Number))
	p.series.add(id.Series)
	p.start.add(id.Start)
	p.used.add(int64(k.Used))
	p.held.add(int64(k.Held))
	p.overage.add(int64(k.Overage))
	p.requests.add(k.Requests)
	p.maximum.add(int64(k.Max))
	p.ends.add(k.End)
	room = appendRare(room[:0], &k)
	p.rareText.add(string(room))
	if h.Place != 0 {
		p.place.add(placeText(h.Place))
	} else {
		p.place.none()
	}
	x := beside(h)
	if x == nil { // what is beside it stays
		p.bucket.none()
		p.bucketUsed.none()
		p.bucketHeld.none()
		p.bucketRequests.none()
		p.bucketRare.none()
		return room
	}
	k = x.Counter()
	p.bucket.add(h.Start)
	p.bucketUsed.add(int64(k.Used))
	p.bucketHeld.add(int64(k.Held))
	p.bucketRequests.add(k.Requests)
	room = appendRare(room[:0], &k)
	p.bucketRare.add(string(room))
	return room
}

// form says which form of the statement writes it.
func (p *posting) form() (form int) {
	if len(p.moving.b)+len(p.newAt.b) > 0 {
		form |= turns
	}
	if len(p.rat.b)+len(p.mat.b) > 0 {
		form |= tells
	}
	return form
}

// rare reports whether there is more than counters and receipts.
func (p *posting) rare() bool { return p.alerts > 0 || p.openings > 0 }

func (p *posting) writes() bool {
	for i := range p.changes {
		if p.changes[i].writes {
			return true
		}
	}
	return false
}

// fence makes every organization move.
func (p *posting) fence() {
	for i := range p.changes {
		p.changes[i].writes = true
	}
}

// post writes the counters and receipts of those organizations that did not
// move, and of which no bucket is stored that was thought to be new, and says
// which. Where nothing is to be written it only looks.
func (s *Store) post(ctx context.Context, rd reader, p *posting, token int64) ([]bool, error) {
	for i, b := range p.books {
		p.org.add(b.id)
		p.version.add(b.version)
		w := int64(0)
		if p.changes[i].writes {
			w = 1
		}
		p.writing.add(w)
		p.holds.add(int64(b.OpenHolds()))
	}
	text, args := s.sql.check, []any{p.org.String(), p.version.String()}
	if p.writes() {
		form := p.form()
		text = s.sql.posts[form]
		args = append(args, p.writing.String(), p.holds.String(), token,
			p.at.String(), p.subject.String(), p.number.String(), p.series.String(), p.start.String(), p.used.String(), p.held.String(),
			p.overage.String(), p.requests.String(), p.maximum.String(), p.ends.String(), p.rareText.String(), p.place.String(),
			p.bucket.String(), p.bucketUsed.String(), p.bucketHeld.String(), p.bucketRequests.String(), p.bucketRare.String())
		if form&turns != 0 {
			args = append(args, p.moving.String(), p.newAt.String(), p.newSubject.String(), p.newStart.String())
		}
		if form&tells != 0 {
			args = append(args, p.rat.String(), p.id.String(), p.keep.String(), p.expires.String(), p.body.String(),
				p.mat.String(), p.part.String(), p.parts.String(), p.move.String())
		}
	}
	type done struct {
		i            int
		places, made sql.NullString
	}
	var got []done
	scan := func(rows *sql.Rows) error {
		var d done
		var err error
		if text == s.sql.check {
			err = rows.Scan(&d.i)
		} else {
			var set sql.NullString
			err = rows.Scan(&d.i, &set, &d.places, &d.made)
		}
		got = append(got, d)
		return err
	}
	var err error
	if rd.q == querier(s.db.DB) && text != s.sql.check {
		err = s.whole(ctx, text, args, scan)
	} else {
		err = rd.each(s, text, args, scan)
	}
	if err != nil {
		return nil, err
	}
	ok := make([]bool, len(p.books))
	for _, d := range got {
		c := &p.changes[d.i-1]
		ok[d.i-1] = true
		c.place(d.places.String, d.made.String)
	}
	return ok, nil
}

// postRare writes alerts and openings, in the transaction that wrote the rest.
func (s *Store) postRare(ctx context.Context, t *tx, p *posting) error {
	if p.openings > 0 {
		var org, sub texts
		var body blobs
		for i, b := range p.books {
			for x, list := range p.changes[i].Openings {
				org.add(b.id)
				sub.add(string(x))
				body.add(quota.AppendOpenings(nil, list))
			}
		}
		if _, err := t.exec(ctx, s.sql.putOpenings, org.String(), sub.String(), body.String()); err != nil {
			return err
		}
	}
	var alerts []quota.Alert
	for i := range p.changes {
		alerts = append(alerts, p.changes[i].Alerts...)
	}
	return s.putAlerts(ctx, t, alerts)
}

// putAlerts puts alerts into the outbox. Their numbers come into sight in their
// order: who has them holds the row that counts until the transaction ends.
func (s *Store) putAlerts(ctx context.Context, t *tx, alerts []quota.Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	var last int64
	err := t.each(ctx, s.sql.alertNumber, []any{len(alerts)}, func(rows *sql.Rows) error { return rows.Scan(&last) })
	if err != nil {
		return err
	}
	var org, sub, limit, kind, id, data texts
	var seq, start, ends, threshold, maximum, used, overage, at ints
	n := last - int64(len(alerts))
	for i := range alerts {
		a := &alerts[i]
		n++
		seq.add(n)
		org.add(a.Org)
		sub.add(string(a.Subject))
		limit.add(a.Limit)
		start.add(a.Start)
		ends.add(a.End)
		threshold.add(int64(a.Threshold))
		maximum.add(int64(a.Max))
		used.add(int64(a.Used))
		overage.add(int64(a.Overage))
		at.add(a.At)
		kind.add(a.Kind)
		id.add(a.ID)
		data.add(a.Data)
	}
	_, err = t.exec(ctx, s.sql.putAlerts, seq.String(), org.String(), sub.String(), limit.String(), start.String(), ends.String(),
		threshold.String(), maximum.String(), used.String(), overage.String(), at.String(), kind.String(), id.String(), data.String())
	return err
}
