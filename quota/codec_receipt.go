package quota

import "encoding/binary"

// What of a Receipt is there, in one byte.
const (
	receiptOf = 1 << iota
	receiptTTL
	receiptHold
	receiptRefunded
	receiptBlock
)

// AppendReceipt appends the stored form of a Receipt.
func AppendReceipt(dst []byte, r *Receipt) []byte {
	var has byte
	for i, there := range [...]bool{r.Of != "", r.TTL != 0, r.Hold != HoldNone, r.Refunded != 0, r.Verb == VerbLease} {
		if there {
			has |= 1 << i
		}
	}
	dst = append(dst, codecVersion, has, byte(r.Verb))
	dst = appendString(dst, r.ID)
	dst = appendString(dst, string(r.Caller))
	dst = binary.AppendUvarint(dst, uint64(r.Amount))
	dst = binary.AppendVarint(dst, r.At)
	dst = binary.AppendVarint(dst, r.Keep)
	if has&receiptOf != 0 {
		dst = appendString(dst, r.Of)
	}
	if has&receiptTTL != 0 {
		dst = binary.AppendVarint(dst, r.TTL)
	}
	if has&receiptHold != 0 {
		dst = append(dst, byte(r.Hold))
		dst = binary.AppendVarint(dst, r.Expires)
		dst = binary.AppendVarint(dst, r.Settled)
		dst = binary.AppendUvarint(dst, uint64(r.Actual))
		dst = appendFigures(dst, r.Final)
	}
	if has&receiptRefunded != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Refunded))
	}
	if has&receiptBlock != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Left))
		dst = binary.AppendUvarint(dst, uint64(r.Requests))
		dst = binary.AppendUvarint(dst, uint64(r.Seq))
	}
	dst = appendFigures(dst, r.Figures)
	dst = binary.AppendUvarint(dst, uint64(len(r.Levels)))
	for i := range r.Levels {
		dst = appendLevel(dst, &r.Levels[i], r.At)
	}
	return dst
}

func appendFigures(dst []byte, f []Figure) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(f)))
	for i := range f {
		for _, c := range [...]Credits{f[i].Max, f[i].Used, f[i].Held, f[i].Overage} {
			dst = binary.AppendUvarint(dst, uint64(c))
		}
	}
	return dst
}

// appendLevel writes times as their distance to at, which is short.
func appendLevel(dst []byte, l *ReceiptLevel, at int64) []byte {
	dst = appendString(dst, string(l.Subject))
	dst = binary.AppendUvarint(dst, uint64(l.Sequence))
	dst = binary.AppendVarint(dst, l.Bucket-at)
	dst = binary.AppendUvarint(dst, uint64(len(l.Limits)))
	for i := range l.Limits {
		e := &l.Limits[i]
		dst = appendString(dst, e.Limit)
		dst = binary.AppendUvarint(dst, uint64(e.Number))
		soft := uint64(0)
		if e.Soft {
			soft = 1
		}
		dst = binary.AppendUvarint(dst, uint64(len(e.Thresholds))<<1|soft)
		for _, t := range e.Thresholds {
			dst = binary.AppendVarint(dst, int64(t))
		}
		dst = binary.AppendVarint(dst, e.Start)
		dst = binary.AppendVarint(dst, e.End)
		dst = binary.AppendUvarint(dst, uint64(e.Max))
		dst = binary.AppendUvarint(dst, uint64(e.Extra))
	}
	return dst
}

// ParseReceipt reads what AppendReceipt wrote.
func ParseReceipt(src []byte) (r *Receipt, rest []byte, err error) {
	p := begin(src)
	r = &Receipt{}
	has := p.byte()
	r.Verb = Verb(p.byte())
	r.ID = p.string()
	r.Caller = Subject(p.string())
	r.Amount = p.credits()
	r.At, r.Keep = p.varint(), p.varint()
	if has&receiptOf != 0 {
		r.Of = p.string()
	}
	if has&receiptTTL != 0 {
		r.TTL = p.varint()
	}
	if has&receiptHold != 0 {
		r.Hold = HoldState(p.byte())
		r.Expires, r.Settled = p.varint(), p.varint()
		r.Actual = p.credits()
		r.Final = p.figures()
	}
	if has&receiptRefunded != 0 {
		r.Refunded = p.credits()
	}
	if has&receiptBlock != 0 {
		r.Left, r.Requests, r.Seq = p.credits(), int64(p.credits()), int64(p.credits())
	}
	r.Figures = p.figures()
	if n := p.length(MaxLevels, 4); n > 0 {
		r.Levels = make([]ReceiptLevel, n)
		for i := range r.Levels {
			p.level(&r.Levels[i], r.At)
		}
	}
	if has>>5 != 0 || r.Verb < VerbCharge || r.Verb > VerbSettle || r.Hold > HoldStranded ||
		(has&receiptBlock != 0) != (r.Verb == VerbLease) || len(r.ID) > MaxIDLen {
		p.bad = true
	}
	if p.bad {
		return nil, nil, p.err("receipt")
	}
	return r, p.rest(), nil
}

func (p *parser) figures() []Figure {
	n := p.length(MaxLevels*MaxLimits, 4)
	if n == 0 {
		return nil
	}
	f := make([]Figure, n)
	for i := range f {
		f[i] = Figure{Max: p.credits(), Used: p.credits(), Held: p.credits(), Overage: p.credits()}
	}
	return f
}

func (p *parser) level(l *ReceiptLevel, at int64) {
	l.Subject = Subject(p.string())
	l.Sequence = p.uint32()
	l.Bucket = p.varint() + at
	n := p.length(MaxLimits, 7)
	if n == 0 {
		return
	}
	l.Limits = make([]Entry, n)
	for i := range l.Limits {
		e := &l.Limits[i]
		e.Limit, e.Number = p.string(), p.uint32()
		k := p.uvarint()
		e.Soft = k&1 != 0
		if k>>1 > maxThresholds || k>>1 > uint64(len(p.b)) {
			p.bad = true
			return
		}
		if k>>1 > 0 {
			e.Thresholds = make([]Threshold, k>>1)
			for j := range e.Thresholds {
				e.Thresholds[j] = Threshold(p.varint())
			}
		}
		e.Start, e.End = p.varint(), p.varint()
		e.Max, e.Extra = p.credits(), p.credits()
	}
}
