package pgstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// contention is how many batches lock an organization first after another
// process was met.
const contention = 16

// Apply implements quota.Store. The Ops are decided here, on the rows as this
// process last left them, and written by one statement, each organization's
// where its version is still that of the rows. Where another process has moved
// it, its row is locked, read and decided on again. What the server says was
// lost on the way is found out by the batch's token. It ends within
// Config.Timeout; an error means that nobody knows what was done.
func (s *Store) Apply(ctx context.Context, ops []*quota.Op) error {
	ctx, end, err := s.begin(ctx, "apply")
	if err != nil {
		return err
	}
	defer end()
	if err := s.take(ctx); err != nil {
		return fmt.Errorf("pgstore: apply: not begun: %w", err)
	}
	defer s.give()
	if err := s.apply(ctx, ops); err != nil {
		return fmt.Errorf("pgstore: apply: %w", err)
	}
	return nil
}

func (s *Store) apply(ctx context.Context, ops []*quota.Op) error {
	s.batch++
	s.drop()
	books, err := s.sort(ops)
	if err != nil {
		return err
	}
	defer s.left(books)
	var calm, busy []*book
	for _, b := range books {
		if b.contended > 0 {
			busy = append(busy, b)
		} else {
			calm = append(calm, b)
		}
	}
	if len(busy) > 0 && s.takeShift(ctx, busy) {
		defer s.rest()
		calm, busy = books, nil
	}
	var before []sending
	if len(calm) > 0 {
		moved, token, err := s.calm(ctx, calm)
		switch {
		case err == nil:
			for _, b := range moved {
				b.contended = contention
			}
		case again(err):
			s.cfg.Logger.Debug("pgstore: a batch is looked after", "error", err)
			moved = calm
			for _, b := range calm {
				b.void()
			}
		default:
			for _, b := range calm {
				b.void()
			}
			return err
		}
		if token != 0 && len(moved) > 0 {
			before = append(before, sending{token, calm, err != nil})
		}
		busy = append(busy, moved...)
	}
	if len(busy) == 0 {
		return nil
	}
	slices.SortFunc(busy, func(a, b *book) int { return cmp.Compare(a.id, b.id) })
	return s.settle(ctx, busy, before)
}

// sending is a batch that was sent, and may have been committed.
type sending struct {
	token int64
	books []*book // in the order in which the batch named them
	// open says that it may still be on its way. Else it was answered; what it
	// wrote was perhaps written by an earlier sending of the same statement:
	// database/sql sends again what a driver says was lost (driver.ErrBadConn),
	// and lib/pq says so of a connection that ends before the answer.
	open bool
}

// sort gives the books of a batch, in the order of their names, with their Ops.
func (s *Store) sort(ops []*quota.Op) ([]*book, error) {
	var books []*book
	var last *book
	for _, op := range ops {
		if err := checkOp(op); err != nil {
			op.Result = quota.Result{Figures: op.Result.Figures[:0], Err: fmt.Errorf("pgstore: apply: %w", err)}
			continue
		}
		if last == nil || last.id != op.Org {
			last = s.book(op.Org)
			if last.batch != s.batch {
				last.batch, last.ops = s.batch, last.ops[:0]
				books = append(books, last)
			}
		}
		last.ops = append(last.ops, op)
	}
	slices.SortFunc(books, func(a, b *book) int { return cmp.Compare(a.id, b.id) })
	return books, nil
}

func (s *Store) book(org string) *book {
	b := s.books[org]
	if b == nil {
		b = s.newBook(org)
		s.books[org] = b
	}
	return b
}

// drop forgets the books that other calls have moved.
func (s *Store) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for org := range s.later {
		if b := s.books[org]; b != nil {
			b.void()
			s.rows, b.rows = s.rows-b.rows, 0
		}
	}
	clear(s.later)
}

// renew empties a book that is to be at its organization's state.
func (b *book) renew() {
	b.void()
	b.version, b.Settings, b.Elsewhere = b.now.version, b.now.settings, int(b.now.holds)
	if b.now.holds > 0 {
		b.soon = -never // all are to be asked for
	}
}

// void empties a book: what it held is not known to be so.
func (b *book) void() { b.Book, b.version, b.soon = quota.NewBook(b.id, b), -1, never }

// left ends a batch: memory stays bounded.
func (s *Store) left(books []*book) {
	for _, b := range books {
		clear(b.ops)
		b.ops, b.read, b.err = b.ops[:0], reader{}, nil
		n := b.Rows()
		s.rows += n - b.rows
		b.rows = n
	}
	if s.rows <= s.cfg.MaxRows && len(s.books) <= s.cfg.MaxRows {
		return
	}
	goal := s.cfg.MaxRows - s.cfg.MaxRows/8
	for org, b := range s.books {
		if s.rows <= goal && len(s.books) <= goal {
			return
		}
		if b.batch+1024 < s.batch {
			s.rows -= b.rows
			delete(s.books, org)
			continue
		}
		b.Evict(max(0, b.rows-(s.rows-goal)))
		n := b.Rows()
		s.rows += n - b.rows
		b.rows = n
	}
}

// token names a batch: by chance, and never 0.
func token() int64 { return rand.Int64N(1<<63-1) + 1 }

// calm decides without a lock and writes what no other process has moved. The
// others' books are void, and their Ops are to be decided again unless sent,
// the batch's token, is found with them. On an error all are open, and sent
// names the batch where it may have been committed.
func (s *Store) calm(ctx context.Context, books []*book) (moved []*book, sent int64, err error) {
	rd := reader{ctx: ctx, q: s.db.DB}
	if err := s.fill(rd, books); err != nil {
		return nil, 0, err
	}
	if err := s.decide(rd, books); err != nil {
		return nil, 0, err
	}
	p := gather(books)
	if p.rare() {
		return s.calmly(ctx, books, p)
	}
	id := int64(0)
	if p.writes() {
		id = token()
	}
	ok, err := s.post(ctx, rd, p, id)
	if err != nil {
		return nil, id, err // even a refusal: it may be that of a second sending
	}
	for i, b := range books {
		if ok[i] {
			b.saved(&p.changes[i])
		} else {
			b.void()
			moved = append(moved, b)
		}
	}
	return moved, id, nil
}

// calmly is the end of calm for a batch with more than counters and receipts.
func (s *Store) calmly(ctx context.Context, books []*book, p *posting) (moved []*book, sent int64, err error) {
	t, err := s.tx(ctx, readCommitted)
	if err != nil {
		return nil, 0, err
	}
	id := token()
	ok, err := s.post(ctx, reader{ctx, t.Tx, t.undo}, p, id)
	if err == nil && slices.Contains(ok, false) {
		t.end(ctx, nil)
		for _, b := range books {
			b.void()
		}
		return books, 0, nil
	}
	if err == nil {
		err = s.postRare(ctx, t, p)
	}
	if err != nil {
		t.end(ctx, err)
		return nil, 0, err
	}
	if err := t.commit(ctx); err != nil {
		if sure(err) {
			id = 0
		}
		return nil, id, err
	}
	for i, b := range books {
		b.saved(&p.changes[i])
	}
	return nil, 0, nil
}

// settle decides under the organizations' locks, again and again while the
// server is away. What was sent before may have been committed already: then
// the Results of its books' Ops stand.
func (s *Store) settle(ctx context.Context, books []*book, before []sending) error {
	err := s.persist(ctx, "apply", func() error {
		id, err := s.locked(ctx, books, before)
		if id != 0 {
			before = append(before, sending{id, books, true})
		}
		return err
	})
	if err != nil {
		for _, b := range books {
			b.void()
		}
	}
	return err
}

func (s *Store) locked(ctx context.Context, books []*book, before []sending) (unsure int64, err error) {
	for _, b := range books {
		b.view = newView()
	}
	if err := s.ensure(ctx, books); err != nil {
		return 0, err
	}
	t, err := s.tx(ctx, readCommitted)
	if err != nil {
		return 0, err
	}
	done := false
	defer func() {
		if !done {
			for _, b := range books {
				b.void()
			}
			t.end(ctx, err)
		}
	}()
	rd := reader{ctx, t.Tx, t.undo}
	if err := s.states(rd, books, s.sql.lock); err != nil {
		return 0, err
	}
	if len(before) > 0 {
		// Whoever sent them is through: it held these locks, or is after us and
		// finds another version.
		was, err := s.posted(rd, before)
		if err != nil {
			return 0, err
		}
		rest := slices.DeleteFunc(slices.Clone(books), func(b *book) bool { return was[b] })
		if len(rest) < len(books) {
			for _, b := range books {
				b.void()
			}
			done = true
			if err := t.commit(ctx); err != nil && !again(err) { // nothing was written
				return 0, err
			}
			if len(rest) == 0 {
				return 0, nil
			}
			return 0, s.settle(ctx, rest, before)
		}
	}
	if err := s.ahead(rd, books, false); err != nil {
		return 0, err
	}
	if err := s.decide(rd, books); err != nil {
		return 0, err
	}
	p := gather(books)
	if slices.ContainsFunc(before, func(x sending) bool { return x.open }) {
		p.fence() // what was sent and never came may still come: let it find another version
	}
	id := token()
	if p.writes() {
		ok, err := s.post(ctx, rd, p, id)
		if err == nil && slices.Contains(ok, false) {
			err = fmt.Errorf("%w: an organization moved under its lock", quota.ErrCorrupt)
		}
		if err == nil && p.rare() {
			err = s.postRare(ctx, t, p)
		}
		if err != nil {
			return 0, err
		}
	}
	done = true
	if err := t.commit(ctx); err != nil {
		for _, b := range books {
			b.void()
		}
		if sure(err) || !p.writes() {
			id = 0
		}
		return id, err
	}
	for i, b := range books {
		b.saved(&p.changes[i])
		b.contended = max(0, b.contended-1)
	}
	return 0, nil
}

// posted says which books were written by what was sent before.
func (s *Store) posted(rd reader, before []sending) (map[*book]bool, error) {
	var tokens ints
	for _, x := range before {
		tokens.add(x.token)
	}
	type found struct {
		token int64
		orgs  string
	}
	var got []found
	err := rd.each(s, s.sql.posted, []any{tokens.String()}, func(rows *sql.Rows) error {
		var f found
		if err := rows.Scan(&f.token, &f.orgs); err != nil {
			return err
		}
		got = append(got, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	was := map[*book]bool{}
	for _, f := range got {
		of := before[slices.IndexFunc(before, func(x sending) bool { return x.token == f.token })].books
		for part := range strings.SplitSeq(f.orgs, ",") {
			i, err := strconv.Atoi(part)
			if err != nil || i < 1 || i > len(of) {
				return nil, fmt.Errorf("%w: batch %d names place %q", quota.ErrCorrupt, f.token, part)
			}
			was[of[i-1]] = true
		}
	}
	return was, nil
}

// ensure makes the rows of organizations that have none: before any lock.
func (s *Store) ensure(ctx context.Context, books []*book) error {
	var org texts
	for _, b := range books {
		if b.version < 0 {
			org.add(b.id)
		}
	}
	if len(org.b) == 0 {
		return nil
	}
	_, err := s.exec(ctx, s.db.DB, nil, s.sql.ensure, org.String())
	return err
}

// fill reads what is not in memory, without a lock: a version that is still
// the same when it is written says that nothing moved in between.
func (s *Store) fill(rd reader, books []*book) error {
	var empty []*book
	for _, b := range books {
		b.view.reset()
		if b.version < 0 {
			empty = append(empty, b)
		}
	}
	if len(empty) > 0 {
		if err := s.states(rd, empty, s.sql.state); err != nil {
			return err
		}
		if slices.ContainsFunc(empty, func(b *book) bool { return b.version < 0 }) {
			if err := s.ensure(rd.ctx, empty); err != nil {
				return err
			}
			if err := s.states(rd, empty, s.sql.state); err != nil {
				return err
			}
		}
	}
	return s.ahead(rd, books, true)
}

// states reads the organizations' rows. A book that is not at its
// organization's version is brought there, or emptied.
func (s *Store) states(rd reader, books []*book, text string) error {
	var org texts
	for _, b := range books {
		org.add(b.id)
	}
	type found struct {
		org string
		orgState
	}
	var got []found
	err := rd.each(s, text, []any{org.String()}, func(rows *sql.Rows) error {
		var f found
		var audit int64
		var a, b sql.NullString
		if err := rows.Scan(&f.org, &f.version, &f.settings, &f.holds, &audit, &a, &b); err != nil {
			return err
		}
		got = append(got, f)
		return nil
	})
	if err != nil {
		return err
	}
	var moved []*book
	for _, f := range got {
		i, ok := slices.BinarySearchFunc(books, f.org, func(b *book, org string) int { return cmp.Compare(b.id, org) })
		if !ok {
			return fmt.Errorf("%w: organization %q was not asked for", quota.ErrCorrupt, f.org)
		}
		b := books[i]
		if b.version == f.version {
			continue
		}
		b.now = f.orgState
		if b.version >= 0 {
			b.contended = contention
			moved = append(moved, b)
		} else {
			b.renew()
		}
	}
	return s.follow(rd, moved)
}

// decide applies the Ops to their books.
func (s *Store) decide(rd reader, books []*book) error {
	for _, b := range books {
		b.read, b.err = rd, nil
		b.Begin()
		for _, op := range b.ops {
			b.Apply(op)
		}
		b.read = reader{}
		if b.err != nil && !errors.Is(b.err, quota.ErrCorrupt) {
			for _, x := range books {
				x.void()
			}
			return b.err
		}
	}
	return nil
}

// saved notes that what was gathered of a book is stored.
func (b *book) saved(c *changes) {
	if c.writes {
		b.version++
	}
	for _, r := range c.Receipts {
		b.ForgetReceipt(r.ID)
	}
	b.TakeAlerts()
}

func (v *view) reset() {
	if len(v.counters)+len(v.openings)+len(v.receipts)+len(v.buckets) > 0 {
		*v = *newView()
	}
}

// Outbox implements quota.Store.
func (s *Store) Outbox(ctx context.Context, after int64, n int) ([]quota.Alert, error) {
	ctx, end, err := s.enter(ctx, "outbox")
	if err != nil {
		return nil, err
	}
	defer end()
	var out []quota.Alert
	err = s.read(ctx, "outbox", func() error {
		got, err := s.scanAlerts(ctx, s.sql.outbox, after, max(n, 0))
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

func (s *Store) scanAlerts(ctx context.Context, text string, args ...any) ([]quota.Alert, error) {
	var out []quota.Alert // not a result: who is left may still write to it
	err := s.each(ctx, s.db.DB, nil, text, args, func(rows *sql.Rows) error {
		var a quota.Alert
		err := rows.Scan(scanAlert(&a)...)
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read is persist for what changes nothing, with the call's name in its error.
func (s *Store) read(ctx context.Context, verb string, try func() error) error {
	if err := s.persist(ctx, verb, try); err != nil {
		return fmt.Errorf("pgstore: %s: %w", verb, err)
	}
	return nil
}

// Peek implements quota.Store, on one snapshot of the server.
func (s *Store) Peek(ctx context.Context, org string, levels []*quota.Level, at int64) (out []quota.Figure, err error) {
	ctx, end, err := s.enter(ctx, "peek")
	if err != nil {
		return nil, err
	}
	defer end()
	op := &quota.Op{Org: org, Levels: levels, At: at}
	if err := checkOp(op); err != nil {
		return nil, fmt.Errorf("pgstore: peek: %w", err)
	}
	err = s.read(ctx, "peek", func() error {
		t, err := s.tx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		got, err := s.peek(reader{ctx, t.Tx, t.undo}, op)
		t.end(ctx, err)
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

func (s *Store) peek(rd reader, op *quota.Op) ([]quota.Figure, error) {
	b := s.newBook(op.Org)
	b.ops, b.read = []*quota.Op{op}, rd
	if err := s.states(rd, []*book{b}, s.sql.state); err != nil {
		return nil, err
	}
	if err := s.ahead(rd, []*book{b}, false); err != nil {
		return nil, err
	}
	if b.Elsewhere > 0 && b.view.held() {
		// A window that is not there yet is shown with what reservations hold of
		// it: which of them are over, only they can tell.
		if err := b.bringAll(rd); err != nil {
			return nil, err
		}
	}
	out, err := b.Peek(op.Levels, op.At)
	if b.err != nil {
		err = b.err
	}
	return out, err
}

// bringAll brings everything that is held into memory.
func (b *book) bringAll(rd reader) error {
	held, err := b.s.scanReceipts(rd, "SELECT 0, "+strings.TrimPrefix(b.s.sql.open, "SELECT "), []any{b.id})
	for _, f := range held {
		b.bring(f.r)
	}
	return err
}

// Stranded implements quota.Store, on one snapshot of the server.
func (s *Store) Stranded(ctx context.Context, org string, at int64) (out []*quota.Receipt, err error) {
	ctx, end, err := s.enter(ctx, "stranded")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := checkText("organization", org); err != nil {
		return nil, fmt.Errorf("pgstore: stranded: %w", err)
	}
	err = s.read(ctx, "stranded", func() error {
		t, err := s.tx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		rd := reader{ctx, t.Tx, t.undo}
		b := s.newBook(org)
		b.read = rd
		if err = s.states(rd, []*book{b}, s.sql.state); err == nil && b.Elsewhere > 0 {
			err = b.bringAll(rd)
		}
		var got []*quota.Receipt
		if err == nil {
			got, err = b.Stranded(at)
		}
		if b.err != nil {
			err = b.err
		}
		t.end(ctx, err)
		if err == nil {
			out = got
		}
		return err
	})
	return out, err
}

// held reports whether a bucket that was read ahead holds anything.
func (v *view) held() bool {
	for _, sp := range v.buckets {
		for _, rows := range sp.rows {
			for i := range rows {
				if rows[i].c.Held != 0 {
					return true
				}
			}
		}
	}
	return false
}

var _ saccount.Store = (*Store)(nil)
