package storetest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/keypurse/keypurse/saccount"
)

func auditLogs() []guarantee {
	return []guarantee{
		{"each entry's mark is made of the mark before it and of what is stored", "a log whose entries hang together cannot be changed unseen", auditMarks},
		{"a batch that is refused leaves the chain as it was", "what follows must follow what is there", auditRefused},
		{"a cut drops the front of the log, and its mark stays", "without it nobody could tell a cut from a theft", auditCut},
		{"a cut that another came before, or of an entry that is not there, is refused whole", "two sweeps at once must not turn the log back", auditCutRefused},
		{"what is cut in one organization is kept in others", "an organization is the unit of everything", auditCutElsewhere},
	}
}

// sealed is a mark that stands for all that it is made of.
func sealed(prev string, e *saccount.Entry) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %q", prev, e.Seq, e.At.UnixMicro(), e.Data))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// logged writes an audit entry for each text, in one batch.
func (k *kit) logged(org string, cut *saccount.Cut, texts ...string) error {
	b := saccount.Batch{Org: org, At: at(noon), Seal: sealed, Cut: cut}
	for i, t := range texts {
		b.Audit = append(b.Audit, saccount.Entry{At: at(noon + int64(i)), Data: []byte(t)})
	}
	return k.Write(background(), b)
}

// chained checks that the log of acme is one chain from the cut on, of n
// entries, and gives it.
func (k *kit) chained(n int) []saccount.Entry {
	k.t.Helper()
	cut, head, err := k.AuditEnds(background(), acme)
	k.must(err, "read the ends of the audit log")
	all := k.audits()
	last := saccount.Head{Seq: cut.Through, Mark: cut.Mark}
	for i := range all {
		e := &all[i]
		if e.Seq != last.Seq+1 || e.Mark != sealed(last.Mark, e) {
			k.failf("entry %d %q at %v has the mark %q and does not follow %+v", e.Seq, e.Data, e.At, e.Mark, last)
		}
		last = saccount.Head{Seq: e.Seq, Mark: e.Mark}
	}
	same(k, "the head of the audit log", head, last)
	same(k, "entries", len(all), n)
	return all
}

func auditMarks(k *kit) {
	k.tree()
	k.chained(0)
	b := changes(k.get(saccount.KindKey, "k1"))
	b.Audit = []saccount.Entry{{At: at(noon), Data: []byte("a"), Mark: "forged", Seq: 9}, {At: at(noon).Add(999), Data: []byte{0, 0xff, 1}}}
	b.Seal = sealed
	k.must(k.Write(background(), b), "write")
	k.must(k.logged(acme, nil, "b", "c", "d"), "write")
	k.must(k.logged(acme, nil, ""), "write")
	k.chained(6)
	long := make([]byte, saccount.MaxMark)
	for i := range long {
		long[i] = 'x'
	}
	k.must(k.Write(background(), saccount.Batch{Org: acme, Audit: []saccount.Entry{{At: at(noon)}}, Seal: func(string, *saccount.Entry) string { return string(long) }}), "write the longest mark")
	k.must(k.logged(acme, nil, "e"), "write behind the longest mark")
	k.must(k.Write(background(), saccount.Batch{Org: acme, Audit: []saccount.Entry{{At: at(noon)}}}), "write an entry without a mark")
	all := k.audits()
	if all[6].Mark != string(long) || all[7].Mark != sealed(string(long), &all[7]) || all[8].Mark != "" {
		k.failf("marks %q", []string{all[6].Mark, all[7].Mark, all[8].Mark})
	}
	cut, head, err := k.AuditEnds(background(), "nobody")
	k.must(err, "read the ends of no log")
	same(k, "the ends of no log", fmt.Sprint(cut, head), fmt.Sprint(saccount.Cut{}, saccount.Head{}))
}

func auditRace(k *kit) {
	k.tree()
	crowd(10, 60, func(i int) {
		if err := k.logged(acme, nil, fmt.Sprint(i), fmt.Sprint(i, "b")); err != nil {
			k.failf("write: %v", err)
		}
	})
	k.chained(120)
}

func auditRefused(k *kit) {
	k.tree()
	k.must(k.logged(acme, nil, "a"), "write")
	b := changes(record(saccount.KindKey, "k1", "a1", "Used"))
	b.Audit, b.Seal = []saccount.Entry{{At: at(noon), Data: []byte("never")}}, sealed
	k.is(k.Write(background(), b), saccount.ErrExists, "use an id again")
	k.must(k.logged(acme, nil, "b"), "write")
	k.chained(2)
}

// cutThrough is the Cut through an entry of acme.
func (k *kit) cutThrough(seq int64) *saccount.Cut {
	k.t.Helper()
	for _, e := range k.audits() {
		if e.Seq == seq {
			return &saccount.Cut{Through: seq, Mark: e.Mark, Seal: fmt.Sprint("seal ", seq)}
		}
	}
	k.fatalf("there is no entry %d", seq)
	return nil
}

func auditCut(k *kit) {
	k.tree()
	k.must(k.logged(acme, nil, "a", "b", "c", "d", "e"), "write")
	one := k.cutThrough(2)
	k.must(k.logged(acme, one, "cut"), "cut and write")
	if all := k.chained(4); all[0].Seq != 3 || string(all[0].Data) != "c" {
		k.failf("the log begins with %+v", all[0])
	}
	cut, _, err := k.AuditEnds(background(), acme)
	k.must(err, "read the ends")
	same(k, "the cut", cut, *one)
	k.must(k.logged(acme, nil, "f"), "write")
	// Everything: the head stays, and numbers go on.
	all := k.cutThrough(7)
	k.must(k.logged(acme, all), "cut everything")
	k.chained(0)
	k.must(k.logged(acme, nil, "g"), "write")
	if rest := k.chained(1); rest[0].Seq != 8 {
		k.failf("after a cut through 7 comes entry %d", rest[0].Seq)
	}
	page, err := k.Audit(background(), acme, -5, 10)
	k.must(err, "read from before the first")
	same(k, "entries", len(page), 1)
}

func auditCutRefused(k *kit) {
	k.tree()
	k.must(k.logged(acme, nil, "a", "b", "c", "d"), "write")
	k.must(k.logged(acme, k.cutThrough(2)), "cut")
	good := *k.cutThrough(3)
	forged, ahead, back, zero := good, good, good, good
	forged.Mark = "another"
	ahead.Through = 5
	back.Through = 2
	zero.Through = 0
	for name, c := range map[string]struct {
		cut  saccount.Cut
		want error
	}{"with another mark": {forged, saccount.ErrConflict}, "that is not there yet": {ahead, saccount.ErrConflict}, "that is cut already": {back, saccount.ErrConflict}, "with no number": {zero, saccount.ErrInvalid}} {
		b := changes(k.get(saccount.KindKey, "k1"))
		b.Cut, b.Audit, b.Seal = &c.cut, []saccount.Entry{{At: at(noon), Data: []byte("never")}}, sealed
		k.is(k.Write(background(), b), c.want, "cut through an entry "+name)
	}
	if r := k.get(saccount.KindKey, "k1"); r.Revision != 1 {
		k.failf("a refused cut changed a record to revision %d", r.Revision)
	}
	k.chained(2)
	k.must(k.logged(acme, &good), "cut")
	k.chained(1)
}

func auditCutElsewhere(k *kit) {
	k.tree()
	for _, org := range []string{acme, "other"} {
		k.must(k.logged(org, nil, "a", "b", "c"), "write")
	}
	k.must(k.logged(acme, k.cutThrough(3)), "cut")
	page, err := k.Audit(background(), "other", 0, 10)
	k.must(err, "read")
	same(k, "entries of the other organization", len(page), 3)
	cut, head, err := k.AuditEnds(background(), "other")
	k.must(err, "read the ends")
	if cut != (saccount.Cut{}) || head.Seq != 3 {
		k.failf("the other organization's log: cut %+v, head %+v", cut, head)
	}
}

func keepAudit(k *kit) {
	k.tree()
	k.must(k.logged(acme, nil, "a", "b", "c"), "write")
	for round := range int64(3) {
		k.must(k.logged(acme, k.cutThrough(round+1), "more"), "cut and write")
		k.reopen()
		k.chained(3)
		cut, _, err := k.AuditEnds(background(), acme)
		k.must(err, "read the ends")
		same(k, "the cut", cut.Seal, fmt.Sprint("seal ", round+1))
	}
}
