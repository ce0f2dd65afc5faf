package quota

import "encoding/binary"

// Alert is an entry of the store's outbox. One whose Kind is empty says that a
// threshold was passed: it is put there by the commit that passed it, once for
// each subject, limit, window and threshold. Those of other kinds are put there
// with a change of records or by themselves; package alert knows them.
type Alert struct {
	Seq       int64 // its place in the outbox, given by the store
	Org       string
	Subject   Subject
	Limit     string
	Start     int64 // the window, microseconds of Unix time; 0 where it never resets
	End       int64
	Threshold Threshold
	Max       Credits // the bound in force, raises and top-ups included
	Used      Credits
	Overage   Credits
	At        int64 // when, microseconds of Unix time

	Kind string // empty: a threshold
	ID   string // of other kinds: what it happens once under in its organization; may be empty
	Data string // of other kinds: the rest of its figures, as package alert writes them
}

// alertVersion begins the stored form of an alert of a kind; those of
// thresholds have codecVersion.
const alertVersion = 2

// AppendAlert appends the stored form of an Alert, its Seq included.
func AppendAlert(dst []byte, a *Alert) []byte {
	whole := a.Kind != "" || a.ID != "" || a.Data != ""
	if whole {
		dst = append(dst, alertVersion)
	} else {
		dst = append(dst, codecVersion)
	}
	dst = binary.AppendVarint(dst, a.Seq)
	dst = appendString(dst, a.Org)
	dst = appendString(dst, string(a.Subject))
	dst = appendString(dst, a.Limit)
	for _, n := range [...]int64{a.Start, a.End, int64(a.Threshold), int64(a.Max), int64(a.Used), int64(a.Overage), a.At} {
		dst = binary.AppendVarint(dst, n)
	}
	if whole {
		dst = appendString(appendString(appendString(dst, a.Kind), a.ID), a.Data)
	}
	return dst
}

// ParseAlert reads what AppendAlert wrote.
func ParseAlert(src []byte) (a Alert, rest []byte, err error) {
	p := parser{b: src}
	version := p.byte()
	if version != codecVersion && version != alertVersion {
		p.bad = true
	}
	a.Seq = p.varint()
	a.Org = p.string()
	a.Subject = Subject(p.string())
	a.Limit = p.string()
	a.Start, a.End = p.varint(), p.varint()
	a.Threshold = Threshold(p.varint())
	a.Max, a.Used, a.Overage = p.amount(), p.amount(), p.amount()
	a.At = p.varint()
	if version == alertVersion {
		a.Kind, a.ID, a.Data = p.string(), p.string(), p.string()
	}
	return a, p.rest(), p.err("alert")
}
