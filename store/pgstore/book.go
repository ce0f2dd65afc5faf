package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/quota"
)

// book is one organization as this process last left it, and at which version.
// What is in it is good while the row in orgs is at that version.
type book struct {
	*quota.Book
	s       *Store
	id      string
	version int64 // -1: nothing was read yet
	soon    int64 // the earliest end of an open reservation that is not in memory
	batch   uint64
	turn    uint64 // of what is written
	// contended counts down the batches that lock first: another process
	// writes to the organization too.
	contended int

	now  orgState    // of the organization, as it was last read
	ops  []*quota.Op // of the attempt
	rows int         // in memory, as the Store counts them
	view *view       // what the attempt read ahead
	read reader      // how the attempt reads what it did not
	err  error       // what such reading ended with
}

const never = math.MaxInt64

// orgState is what an organization's writers agree on.
type orgState struct{ version, settings, holds int64 }

func (s *Store) newBook(org string) *book {
	b := &book{s: s, id: org, version: -1, soon: never, view: newView()}
	b.Book = quota.NewBook(org, b)
	return b
}

// reader asks the server within an attempt: in its transaction, or without one.
type reader struct {
	ctx  context.Context
	q    querier
	undo func()
}

func (r reader) each(s *Store, text string, args []any, scan func(*sql.Rows) error) error {
	return s.each(r.ctx, r.q, r.undo, text, args, scan)
}

// view is what was read ahead for a batch, absences included.
type view struct {
	counters map[quota.CounterID]*quota.Counter // nil: not stored
	kept     []kept                             // the rows that they were read from
	fresh    []quota.CounterID                  // buckets that are thought not to be stored: what writes the batch looks
	openings map[quota.Subject][]quota.Opening
	receipts map[string]*quota.Receipt // nil: not stored
	buckets  map[quota.Subject]*span
}

// span is every usage bucket, folded ones too, of a subject in [from, to).
type span struct {
	from, to int64
	rows     [2][]bucket // SeriesFolded, SeriesUsage
}

type bucket struct {
	start int64
	c     quota.Counter
}

func newView() *view {
	return &view{
		counters: map[quota.CounterID]*quota.Counter{}, openings: map[quota.Subject][]quota.Opening{},
		receipts: map[string]*quota.Receipt{}, buckets: map[quota.Subject]*span{},
	}
}

// fail notes that the server could not be asked: the attempt is void, whatever
// became of the Op.
func (b *book) fail(err error) error {
	if err != nil && b.err == nil {
		b.err = err
	}
	return err
}

// Counter implements quota.Loader.
func (b *book) Counter(id quota.CounterID) (quota.Counter, bool, error) {
	c, ok := b.view.counters[id]
	if !ok {
		if err := b.fail(b.s.readCounters(b.read, []*book{b}, [][]quota.CounterID{{id}})); err != nil {
			return quota.Counter{}, false, err
		}
		c = b.view.counters[id]
	}
	if c == nil {
		return quota.Counter{}, false, nil
	}
	return *c, true, nil
}

// Buckets implements quota.Loader.
func (b *book) Buckets(sub quota.Subject, series string, from, to int64, fn func(int64, quota.Counter)) error {
	if from >= to {
		return nil
	}
	v := b.view.buckets[sub]
	usage := series == quota.SeriesUsage || series == quota.SeriesFolded
	if !usage || v == nil || from < v.from || to > v.to {
		v = &span{from: from, to: to}
		if err := b.fail(b.s.readBuckets(b.read, []want{{b, sub, series, v}})); err != nil {
			return err
		}
		for _, k := range v.rows[1] {
			fn(k.start, k.c)
		}
		return nil
	}
	at := 1
	if series == quota.SeriesFolded {
		at = 0
	}
	for _, k := range v.rows[at] {
		if k.start >= from && k.start < to {
			fn(k.start, k.c)
		}
	}
	return nil
}

// Openings implements quota.Loader.
func (b *book) Openings(sub quota.Subject) ([]quota.Opening, error) {
	o, ok := b.view.openings[sub]
	if !ok {
		if err := b.fail(b.s.readOpenings(b.read, []*book{b}, [][]quota.Subject{{sub}})); err != nil {
			return nil, err
		}
		o = b.view.openings[sub]
	}
	return o, nil
}

// Receipt implements quota.Loader.
func (b *book) Receipt(id string) (*quota.Receipt, error) {
	r, ok := b.view.receipts[id]
	if !ok {
		if err := b.fail(b.s.readReceipts(b.read, []*book{b}, [][]string{{id}})); err != nil {
			return nil, err
		}
		r = b.view.receipts[id]
	}
	return r, nil
}

func (s *Store) readCounters(rd reader, books []*book, ids [][]quota.CounterID) error {
	var org, sub, series texts
	var number, start ints
	n := 0
	for i, b := range books {
		for _, id := range ids[i] {
			org.add(b.id)
			sub.add(string(id.Subject))
			number.add(int64(id.Number))
			series.add(id.Series)
			start.add(id.Start)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	var lines string
	err := rd.each(s, s.sql.counters, []any{org.String(), sub.String(), number.String(), series.String(), start.String()}, func(rows *sql.Rows) error {
		return rows.Scan(&lines)
	})
	if err != nil {
		return err
	}
	got := make([]*kept, n)
	for line := range strings.Lines(lines) {
		at, k, err := parseKept(strings.TrimSuffix(line, "\n"))
		if err == nil && (at < 1 || at > n) {
			err = fmt.Errorf("%d were asked for", n)
		}
		if err != nil {
			return fmt.Errorf("%w: a counter cannot be read: %q: %w", quota.ErrCorrupt, line, err)
		}
		got[at-1] = k
	}
	for i, b := range books {
		for _, id := range ids[i] {
			b.view.counters[id] = nil
			if k := got[0]; k != nil {
				b.view.counters[id] = k.of(id)
				b.view.kept = append(b.view.kept, *k)
			}
			got = got[1:]
		}
	}
	return nil
}

// of names the row, which was found as the counter id, and gives that counter.
func (k *kept) of(id quota.CounterID) *quota.Counter {
	k.id.Subject, k.bucket.Subject = id.Subject, id.Subject
	if id.Number == 0 && k.id.Number > 0 {
		return &k.beside
	}
	return &k.c
}

// parseKept reads what the statement says of a stored row: its number among those
// asked for, its place, the counter, and what is beside it.
func parseKept(line string) (at int, k *kept, err error) {
	word := func() string {
		text, rest, ok := strings.Cut(line, " ")
		if !ok {
			err = errors.Join(err, errShort)
		}
		line = rest
		return text
	}
	num := func() (n int64) {
		n, e := strconv.ParseInt(word(), 10, 64)
		if e != nil {
			err = errors.Join(err, e)
		}
		return n
	}
	rare := func(c *quota.Counter) {
		if e := parseRare(strings.TrimPrefix(word(), "-"), c); e != nil {
			err = errors.Join(err, e)
		}
	}
	k = &kept{}
	at = int(num())
	where := word()
	if place, rest, ok := parsePlace(where); ok && rest == "" {
		k.place = place
	} else {
		err = errors.Join(err, fmt.Errorf("%q is no place", where))
	}
	number := num()
	if number < 0 || number > math.MaxUint32 {
		err = errors.Join(err, fmt.Errorf("it has number %d", number))
	}
	k.id.Number, k.id.Start = uint32(number), num()
	c := &k.c
	c.Used, c.Held, c.Overage = quota.Credits(num()), quota.Credits(num()), quota.Credits(num())
	c.Requests, c.Max, c.End = num(), quota.Credits(num()), num()
	rare(c)
	if k.carries = strings.HasPrefix(line, "+ "); k.carries {
		word()
		k.bucket.Start = num()
		k.beside.Used, k.beside.Held, k.beside.Requests = quota.Credits(num()), quota.Credits(num()), num()
		rare(&k.beside)
	} else if word() != "-" {
		err = errors.Join(err, errShort)
	}
	k.id.Series = line
	return at, k, err
}

var errShort = errors.New("it ends early")

// rare is the text of what few counters have: "c" and the ceiling, "s" and
// what is stranded, then for
// each threshold that was passed "m", the start of its window, ":" and itself.
func appendRare(dst []byte, c *quota.Counter) []byte {
	if c.Capped {
		dst = strconv.AppendInt(append(dst, 'c'), int64(c.Ceiling), 10)
	}
	if c.Stranded != 0 {
		dst = strconv.AppendInt(append(dst, 's'), int64(c.Stranded), 10)
	}
	for _, m := range c.Marks {
		dst = strconv.AppendInt(append(dst, 'm'), m.Start, 10)
		dst = strconv.AppendInt(append(dst, ':'), int64(m.Threshold), 10)
	}
	return dst
}

func parseRare(text string, c *quota.Counter) error {
	for text != "" {
		kind := text[0]
		n := strings.IndexAny(text[1:], "cms")
		if n < 0 {
			n = len(text) - 1
		}
		part := text[1 : n+1]
		text = text[n+1:]
		switch kind {
		case 'c':
			x, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return err
			}
			c.Capped, c.Ceiling = true, quota.Credits(x)
		case 's':
			x, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return err
			}
			c.Stranded = quota.Credits(x)
		case 'm':
			start, threshold, _ := strings.Cut(part, ":")
			x, err := strconv.ParseInt(start, 10, 64)
			if err != nil {
				return err
			}
			y, err := strconv.ParseInt(threshold, 10, 64)
			if err != nil {
				return err
			}
			c.Marks = append(c.Marks, quota.Mark{Start: x, Threshold: quota.Threshold(y)})
		default:
			return fmt.Errorf("it begins with %q", kind)
		}
	}
	return nil
}

func (s *Store) readOpenings(rd reader, books []*book, subs [][]quota.Subject) error {
	var org, sub texts
	var at ints
	n := 0
	for i, b := range books {
		for _, x := range subs[i] {
			org.add(b.id)
			sub.add(string(x))
			at.add(int64(i))
			n++
		}
	}
	if n == 0 {
		return nil
	}
	type found struct {
		at   int
		sub  quota.Subject
		list []quota.Opening
	}
	var got []found
	err := rd.each(s, s.sql.openings, []any{org.String(), sub.String(), at.String()}, func(rows *sql.Rows) error {
		var f found
		var body []byte
		if err := rows.Scan(&f.at, &f.sub, &body); err != nil {
			return err
		}
		list, rest, err := quota.ParseOpenings(body)
		if err != nil || len(rest) != 0 {
			return fmt.Errorf("%w: the openings of %s cannot be read", quota.ErrCorrupt, f.sub)
		}
		f.list = list
		got = append(got, f)
		return nil
	})
	if err != nil {
		return err
	}
	for i, b := range books {
		for _, x := range subs[i] {
			b.view.openings[x] = nil
		}
	}
	for _, f := range got {
		books[f.at].view.openings[f.sub] = f.list
	}
	return nil
}

func (s *Store) readReceipts(rd reader, books []*book, ids [][]string) error {
	var org, id texts
	var at ints
	n := 0
	for i, b := range books {
		for _, x := range ids[i] {
			org.add(b.id)
			id.add(x)
			at.add(int64(i))
			n++
		}
	}
	if n == 0 {
		return nil
	}
	got, err := s.scanReceipts(rd, s.sql.receipts, []any{org.String(), id.String(), at.String()})
	if err != nil {
		return err
	}
	for i, b := range books {
		for _, x := range ids[i] {
			b.view.receipts[x] = nil
		}
	}
	for _, f := range got {
		books[f.at].view.receipts[f.r.ID] = f.r
	}
	return nil
}

type foundReceipt struct {
	at int
	r  *quota.Receipt
}

func (s *Store) scanReceipts(rd reader, text string, args []any) (got []foundReceipt, err error) {
	var out []foundReceipt
	err = rd.each(s, text, args, func(rows *sql.Rows) error {
		var f foundReceipt
		var id string
		var body []byte
		if err := rows.Scan(&f.at, &id, &body); err != nil {
			return err
		}
		r, rest, err := quota.ParseReceipt(body)
		if err != nil || len(rest) != 0 || r.ID != id {
			return fmt.Errorf("%w: what id %q did cannot be read", quota.ErrCorrupt, id)
		}
		f.r = r
		out = append(out, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// want is a span that is to be filled.
type want struct {
	b      *book
	sub    quota.Subject
	series string // where one only
	v      *span
}

// readBuckets fills spans: of their series, as rows[1], or, where both is set,
// of usage and folded usage.
func (s *Store) readBuckets(rd reader, wants []want) error { return s.readSpans(rd, wants, false) }

func (s *Store) readSpans(rd reader, wants []want, both bool) error {
	var org, sub, series texts
	var from, to, at ints
	for i, w := range wants {
		for k, name := range [2]string{quota.SeriesFolded, w.series} {
			if k == 0 && !both {
				continue
			}
			org.add(w.b.id)
			sub.add(string(w.sub))
			series.add(name)
			from.add(w.v.from)
			to.add(w.v.to)
			at.add(int64(2*i + k))
		}
	}
	if len(wants) == 0 {
		return nil
	}
	type found struct {
		at int
		bucket
	}
	var got []found
	err := rd.each(s, s.sql.buckets, []any{org.String(), sub.String(), series.String(), from.String(), to.String(), at.String()}, func(rows *sql.Rows) error {
		var f found
		var rare string
		if err := rows.Scan(&f.at, &f.start, &f.c.Used, &f.c.Held, &f.c.Requests, &rare); err != nil {
			return err
		}
		if err := parseRare(rare, &f.c); err != nil {
			return fmt.Errorf("%w: the bucket of %s at %d: %w", quota.ErrCorrupt, wants[f.at/2].sub, f.start, err)
		}
		got = append(got, f)
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range got {
		v := wants[f.at/2].v
		v.rows[f.at%2] = append(v.rows[f.at%2], f.bucket)
	}
	return nil
}
