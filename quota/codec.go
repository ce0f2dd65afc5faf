package quota

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The stored form of counters, receipts and what goes with them, for backends
// that keep bytes. Every value begins with a version; numbers are varints
// (encoding/binary), strings have their length before them. The forms carry no
// checksum: that is the backend's, over key and value.
//
// Append functions append to dst and return it. Parse functions read one value
// from the front of src and return what follows it; nothing that they return
// points into src. They never panic; what is not a value of this form, or of a
// version that this one does not know, is an error that wraps ErrCorrupt.

// codecVersion is the first byte of every stored value.
const codecVersion = 1

// Bounds on what is read, so that a damaged length asks for no memory.
const (
	maxStored      = 1 << 12 // bytes of one string
	maxThresholds  = 1 << 8  // of one limit
	maxStoredMarks = 1 << 8
)

// AppendCounterID appends the stored form of a CounterID. It is compact, not
// ordered: a backend that sorts by counter makes its own keys.
func AppendCounterID(dst []byte, id CounterID) []byte {
	dst = append(dst, codecVersion)
	dst = appendString(dst, string(id.Subject))
	dst = appendString(dst, id.Series)
	dst = binary.AppendUvarint(dst, uint64(id.Number))
	return binary.AppendVarint(dst, id.Start)
}

// ParseCounterID reads what AppendCounterID wrote.
func ParseCounterID(src []byte) (id CounterID, rest []byte, err error) {
	p := begin(src)
	id.Subject = Subject(p.string())
	id.Series = p.string()
	id.Number = p.uint32()
	id.Start = p.varint()
	return id, p.rest(), p.err("counter id")
}

// What of a Counter is there, in one byte.
const (
	hasHeld = 1 << iota
	hasOverage
	hasRequests
	hasMax
	hasCeiling
	hasMarks
	hasEnd
	hasStranded
)

// AppendCounter appends the stored form of a Counter: what is zero takes no room.
func AppendCounter(dst []byte, c *Counter) []byte {
	var has byte
	for i, there := range [...]bool{c.Held != 0, c.Overage != 0, c.Requests != 0, c.Max != 0, c.Capped, len(c.Marks) > 0, c.End != 0, c.Stranded != 0} {
		if there {
			has |= 1 << i
		}
	}
	dst = append(dst, codecVersion, has)
	dst = binary.AppendUvarint(dst, uint64(c.Used))
	for _, x := range [...]struct {
		bit byte
		n   int64
	}{{hasHeld, int64(c.Held)}, {hasOverage, int64(c.Overage)}, {hasRequests, c.Requests}, {hasMax, int64(c.Max)}} {
		if has&x.bit != 0 {
			dst = binary.AppendUvarint(dst, uint64(x.n))
		}
	}
	if has&hasCeiling != 0 {
		dst = binary.AppendVarint(dst, int64(c.Ceiling)) // may be below 0
	}
	if has&hasMarks != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(c.Marks)))
		for _, m := range c.Marks {
			dst = binary.AppendVarint(dst, m.Start)
			dst = binary.AppendVarint(dst, int64(m.Threshold))
		}
	}
	if has&hasEnd != 0 {
		dst = binary.AppendVarint(dst, c.End)
	}
	if has&hasStranded != 0 {
		dst = binary.AppendUvarint(dst, uint64(c.Stranded))
	}
	return dst
}

// ParseCounter reads what AppendCounter wrote.
func ParseCounter(src []byte) (c Counter, rest []byte, err error) {
	p := begin(src)
	has := p.byte()
	c.Used = p.credits()
	if has&hasHeld != 0 {
		c.Held = p.credits()
	}
	if has&hasOverage != 0 {
		c.Overage = p.credits()
	}
	if has&hasRequests != 0 {
		c.Requests = int64(p.credits())
	}
	if has&hasMax != 0 {
		c.Max = p.credits()
	}
	if has&hasCeiling != 0 {
		c.Capped, c.Ceiling = true, Credits(p.varint())
	}
	if has&hasMarks != 0 {
		c.Marks = make([]Mark, p.length(maxStoredMarks, 2))
		for i := range c.Marks {
			c.Marks[i] = Mark{Start: p.varint(), Threshold: Threshold(p.varint())}
		}
	}
	if has&hasEnd != 0 {
		c.End = p.varint()
	}
	if has&hasStranded != 0 {
		c.Stranded = p.credits()
	}
	return c, p.rest(), p.err("counter")
}

// AppendOpenings appends the stored form of a subject's openings.
func AppendOpenings(dst []byte, o []Opening) []byte {
	dst = append(dst, codecVersion)
	dst = binary.AppendUvarint(dst, uint64(len(o)))
	for i := range o {
		dst = appendString(dst, o[i].Series)
		dst = binary.AppendUvarint(dst, uint64(o[i].Number))
		dst = binary.AppendVarint(dst, o[i].Start)
		dst = binary.AppendVarint(dst, o[i].End)
	}
	return dst
}

// ParseOpenings reads what AppendOpenings wrote.
func ParseOpenings(src []byte) (o []Opening, rest []byte, err error) {
	p := begin(src)
	if n := p.length(maxOpenings, 4); n > 0 {
		o = make([]Opening, n)
		for i := range o {
			o[i] = Opening{Series: p.string(), Number: p.uint32(), Start: p.varint(), End: p.varint()}
		}
	}
	return o, p.rest(), p.err("openings")
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// parser reads the front of a slice. Once something is wrong it is bad, and
// gives zeros.
type parser struct {
	b   []byte
	bad bool
}

func begin(src []byte) parser {
	p := parser{b: src}
	if p.byte() != codecVersion {
		p.bad = true
	}
	return p
}

func (p *parser) rest() []byte {
	if p.bad {
		return nil
	}
	return p.b
}

func (p *parser) err(what string) error {
	if p.bad {
		return fmt.Errorf("%w: the stored %s cannot be read", ErrCorrupt, what)
	}
	return nil
}

func (p *parser) byte() byte {
	if p.bad || len(p.b) == 0 {
		p.bad = true
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

func (p *parser) uvarint() uint64 {
	n, size := binary.Uvarint(p.b)
	if p.bad || size <= 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) varint() int64 {
	n, size := binary.Varint(p.b)
	if p.bad || size <= 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[size:]
	return n
}

func (p *parser) uint32() uint32 {
	n := p.uvarint()
	if n > math.MaxUint32 {
		p.bad = true
		return 0
	}
	return uint32(n)
}

// credits reads an amount that was written unsigned.
func (p *parser) credits() Credits {
	n := p.uvarint()
	if n > math.MaxInt64 {
		p.bad = true
		return 0
	}
	return Credits(n)
}

// amount reads an amount that was written signed; none is negative.
func (p *parser) amount() Credits {
	n := p.varint()
	if n < 0 {
		p.bad = true
		return 0
	}
	return Credits(n)
}

// length reads how many things follow that take at least size bytes each.
func (p *parser) length(most, size int) int {
	n := p.uvarint()
	if n > uint64(most) || n*uint64(size) > uint64(len(p.b)) {
		p.bad = true
		return 0
	}
	return int(n)
}

func (p *parser) string() string {
	n := p.length(maxStored, 1)
	s := string(p.b[:n])
	p.b = p.b[n:]
	return s
}
