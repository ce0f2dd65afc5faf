package pgstore

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/quota"
)

// Where several processes write to an organization, each finds it moved by the
// others whenever its shift comes. What they changed they leave in the table
// moves, under the version that they made, so that the next one reads that and
// keeps what it has. It is a matter of time alone: where a version is missing,
// the book is emptied and read anew.

const (
	moveSlots = 64        // versions that are kept of an organization
	movePart  = 3600      // bytes of a part: two fit into a page
	maxMove   = 256 << 10 // bytes of what is told; after more, the others read anew
)

// tell adds what changed to what the other processes will read, unless it is not
// to be told: what an opening changes, they read anew.
func (p *posting) tell(at int64, c *changes) {
	if !c.writes || len(c.Openings) > 0 {
		return
	}
	body := appendMove(nil, c)
	if len(body) > maxMove {
		return
	}
	parts := max(1, (len(body)+movePart-1)/movePart)
	n := 0
	for part := range slices.Chunk(body, movePart) {
		p.mat.add(at)
		p.part.add(int64(n))
		p.parts.add(int64(parts))
		p.move.add(part)
		n++
	}
}

// appendMove appends the stored form of what a batch changed: a version, the
// number of its first counter in the statement, its counters with what is known of
// the buckets beside them, and the ids whose receipts changed.
func appendMove(dst []byte, c *changes) []byte {
	dst = append(dst, moveVersion)
	dst = binary.AppendUvarint(dst, uint64(c.first))
	dst = binary.AppendUvarint(dst, uint64(len(c.homes)))
	for _, h := range c.homes {
		r := named(h)
		k := r.Counter()
		dst = quota.AppendCounter(quota.AppendCounterID(dst, r.ID()), &k)
		x := beside(h)
		switch {
		case x != nil:
			k = x.Counter()
			dst = quota.AppendCounter(binary.AppendVarint(append(dst, besideTold), h.Start), &k)
		case h.Limit != nil && h.Carries:
			dst = binary.AppendVarint(append(dst, besideAsItWas), h.Start)
		default:
			dst = append(dst, besideNone)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Receipts)))
	for _, r := range c.Receipts {
		dst = binary.AppendUvarint(dst, uint64(len(r.ID)))
		dst = append(dst, r.ID...)
	}
	return dst
}

const (
	moveVersion  = 2
	leastCounter = 8 // bytes that a counter takes at least
)

// What there is beside a counter.
const (
	besideNone    = iota
	besideAsItWas // a bucket, of which only the start is told
	besideTold
)

// move is what another process changed.
type move struct {
	first    int
	counters []movedCounter
	ids      []string // of receipts
}

type movedCounter struct {
	id     quota.CounterID
	c      quota.Counter
	place  uint64 // 0: not known
	beside byte
	start  int64 // of the bucket beside it
	bucket quota.Counter
}

var errMove = errors.New("what another process changed cannot be read")

// parseMove reads what appendMove wrote.
func parseMove(src []byte) (m move, err error) {
	if len(src) == 0 || src[0] != moveVersion {
		return m, errMove
	}
	src = src[1:]
	number := func() (n int) {
		u, size := binary.Uvarint(src)
		if size <= 0 || u > math.MaxInt32 {
			err = errMove
			return 0
		}
		src = src[size:]
		return int(u)
	}
	m.first = number()
	n := number()
	if err != nil || n > len(src)/leastCounter {
		return m, errMove
	}
	m.counters = make([]movedCounter, n)
	for i := range m.counters {
		k := &m.counters[i]
		if k.id, src, err = quota.ParseCounterID(src); err != nil {
			return m, err
		}
		if k.c, src, err = quota.ParseCounter(src); err != nil {
			return m, err
		}
		if src, err = k.parseBeside(src); err != nil {
			return m, err
		}
	}
	n = number()
	if err != nil || n > len(src) {
		return m, errMove
	}
	m.ids = make([]string, n)
	for i := range m.ids {
		size := number()
		if err != nil || size > len(src) {
			return m, errMove
		}
		m.ids[i], src = string(src[:size]), src[size:]
	}
	if len(src) > 0 {
		return m, errMove
	}
	return m, nil
}

func (k *movedCounter) parseBeside(src []byte) (rest []byte, err error) {
	if len(src) == 0 || src[0] > besideTold || src[0] != besideNone && k.id.Number == 0 {
		return nil, errMove
	}
	k.beside, src = src[0], src[1:]
	if k.beside == besideNone {
		return src, nil
	}
	start, size := binary.Varint(src)
	if size <= 0 {
		return nil, errMove
	}
	k.start, src = start, src[size:]
	if k.beside == besideTold {
		k.bucket, src, err = quota.ParseCounter(src)
	}
	return src, err
}

// place notes where the server put the rows of a batch, of which the first has
// that number: places are those that lay where they were thought, with their
// numbers before them, and made are the others in order. What cannot be read is
// not known.
func place(first, n int, places, made string, set func(i int, place uint64)) {
	known := make([]bool, n)
	for places != "" {
		at := strings.IndexByte(places, '(')
		if at < 0 {
			break
		}
		i, err := strconv.Atoi(places[:at])
		x, rest, ok := parsePlace(places[at:])
		if i -= first; err != nil || !ok || i < 0 || i >= n {
			break
		}
		known[i], places = true, rest
		set(i, x)
	}
	for i := range known {
		if known[i] {
			continue
		}
		x, rest, ok := parsePlace(made)
		if !ok {
			return
		}
		made = rest
		set(i, x)
	}
}

func (c *changes) place(places, made string) {
	for _, h := range c.homes {
		h.Place = 0
	}
	place(c.first, len(c.homes), places, made, func(i int, x uint64) { c.homes[i].Place = x })
}

// A place is a row's ctid, "(block,number)", in one number that is never 0: rows
// of a block are numbered from 1.
func parsePlace(s string) (place uint64, rest string, ok bool) {
	inner, rest, ok := strings.Cut(s, ")")
	if !ok || !strings.HasPrefix(inner, "(") {
		return 0, "", false
	}
	block, number, _ := strings.Cut(inner[1:], ",")
	b, err := strconv.ParseUint(block, 10, 32)
	n, err2 := strconv.ParseUint(number, 10, 16)
	if err != nil || err2 != nil || n == 0 {
		return 0, "", false
	}
	return b<<16 | n, rest, true
}

func placeText(place uint64) string {
	b := make([]byte, 0, 20)
	b = strconv.AppendUint(append(b, '('), place>>16, 10)
	b = strconv.AppendUint(append(b, ','), place&math.MaxUint16, 10)
	return string(append(b, ')'))
}

// follow brings books to the state of their organizations by what the others
// told, and empties those of which that is not all there.
func (s *Store) follow(rd reader, books []*book) error {
	var org texts
	var version, at ints
	for i, b := range books {
		if d := b.now.version - b.version; b.now.settings == b.Settings && d > 0 && d <= moveSlots {
			for v := b.version + 1; v <= b.now.version; v++ {
				org.add(b.id)
				version.add(v)
				at.add(int64(i))
			}
		}
	}
	told := map[int][]told{}
	if len(org.b) > 0 {
		var err error
		if told, err = s.moves(rd, []any{org.String(), version.String(), at.String()}); err != nil {
			return err
		}
	}
	for i, b := range books {
		if !b.follow(told[i]) {
			b.renew()
		}
	}
	return nil
}

// told is what was told under one version.
type told struct {
	version      int64
	parts        int
	got          int
	body         []byte
	places, made string
}

func (s *Store) moves(rd reader, args []any) (map[int][]told, error) {
	out := map[int][]told{} // not a result: who is left may still write to it
	err := rd.each(s, s.sql.moves, args, func(rows *sql.Rows) error {
		var i, part, parts int
		var version int64
		var body sql.RawBytes
		var places, made sql.NullString
		if err := rows.Scan(&i, &version, &part, &parts, &body, &places, &made); err != nil {
			return err
		}
		list := out[i]
		if n := len(list); n == 0 || list[n-1].version != version {
			list = append(list, told{version: version, parts: parts})
		}
		t := &list[len(list)-1]
		if part == t.got && parts == t.parts {
			t.got++
			t.body = append(t.body, body...)
		}
		if part == 0 {
			t.places, t.made = places.String, made.String
		}
		out[i] = list
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// restore brings a counter, and what is beside it, to the state that was told.
func (k *movedCounter) restore(b *book) *quota.Home {
	var bucket *quota.Row
	if k.beside == besideTold {
		bucket = b.Restore(carriedBy(k.id, k.start), k.bucket, false)
	}
	h := b.lodge(b.Restore(k.id, k.c, false), bucket, k.beside != besideNone, k.start)
	h.Place = k.place
	return h
}

// follow applies what was told, if that is all that happened since the book's
// version.
func (b *book) follow(all []told) bool {
	if len(all) == 0 || b.version+int64(len(all)) != b.now.version {
		return false
	}
	moves := make([]move, len(all))
	for i := range all {
		t := &all[i]
		if t.version != b.version+1+int64(i) || t.got != t.parts {
			return false
		}
		m, err := parseMove(t.body)
		if err != nil {
			return false
		}
		place(m.first, len(m.counters), t.places, t.made, func(i int, x uint64) { m.counters[i].place = x })
		moves[i] = m
	}
	held := false
	for _, m := range moves {
		for i := range m.counters {
			m.counters[i].restore(b)
		}
		for _, id := range m.ids {
			b.UnloadReceipt(id)
			held = true
		}
	}
	// Those in memory are open still; the others are what the row says beyond.
	b.Elsewhere += int(b.now.holds) - b.OpenHolds()
	if b.Elsewhere < 0 {
		return false
	}
	if held && b.Elsewhere > 0 {
		b.soon = -never
	}
	b.version = b.now.version
	return true
}
