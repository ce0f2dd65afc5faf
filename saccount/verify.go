package saccount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Verify says what an audit log is held to. The zero Verify: to itself.
type Verify struct {
	// Anchor is a Head that was kept outside of the store: the log must still
	// hold that very entry. The zero Head: none.
	Anchor Head
	// From is the Head of a Verified before, to go on behind it instead of from
	// the front: its entry must still be that one, what lies before it is not
	// looked at again. The zero Head: from the front.
	From Head
	// Most bounds the entries that are looked at, for who checks a long log in
	// steps: Verified.More says that it goes on. To tell an entry that was moved
	// from one that was removed, as many again are. 0: no bound.
	Most int64
	// Unkeyed lets entries before the first that was sealed with a Secret be
	// chained by plain SHA-256, in a Service that has Secrets: for a host that
	// began without. Whoever can write to the store could have made those;
	// Verified counts them. A Service without Secrets needs it not.
	Unkeyed bool
}

// Verified is what Service.Verify found.
type Verified struct {
	Through int64   `json:"through"` // entries up to this one were cut from the front; 0: none were
	Entries int64   `json:"entries"` // that are as they were written, in a row from the first, or behind Verify.From, on
	Unkeyed int64   `json:"unkeyed"` // of these, chained by plain SHA-256
	Head    Head    `json:"head"`    // the last of them; where there is none, where it began
	More    bool    `json:"more"`    // Verify.Most ended it: go on from Head
	Bad     *Breach `json:"bad,omitempty"`
}

// Breach is the first place where an audit log is not what was written.
type Breach struct {
	Seq    int64      `json:"seq"` // of the first entry that is bad, or missing
	Kind   BreachKind `json:"kind"`
	Detail string     `json:"detail"` // for a person
}

// BreachKind is what was done to an audit log.
type BreachKind string

// The kinds. Where several things were done, the first in the log is told.
const (
	BreachChanged   BreachKind = "changed"        // the entry is not as it was written
	BreachRemoved   BreachKind = "removed"        // the entry is gone, and later ones are there
	BreachInserted  BreachKind = "inserted"       // the entry was never written here: made up, or a copy of another
	BreachReordered BreachKind = "reordered"      // the entry stands elsewhere in the log
	BreachCutFront  BreachKind = "cut front"      // the first entries are gone, and no Service cut them
	BreachCutTail   BreachKind = "cut tail"       // the anchored entry is gone, with all after it
	BreachCopied    BreachKind = "copied"         // the entry is one of another organization
	BreachReplaced  BreachKind = "replaced"       // the log before the entry is not the one that it was written behind
	BreachUnmarked  BreachKind = "unmarked"       // the entry has no mark: it was taken off, or an old version wrote it
	BreachUnkeyed   BreachKind = "unkeyed"        // the entry is chained by plain SHA-256 where a Secret was in use
	BreachSecret    BreachKind = "unknown secret" // the entry names a Secret that the Config does not have
)

// Verify reads an organization's audit log from its front and names the first
// place where it is not what was written: see BreachKind. It holds one page in
// memory, and what is written meanwhile may or may not be seen.
//
// With Secrets, whoever can write to the store, and does not have them, can
// neither change, remove, insert, move nor copy an entry, nor drop the front of
// the log, unseen. What cannot be seen is that the tail was cut, the whole log
// dropped, or an old copy of the store put back: what is left is a log that was
// once whole. Keep a Head outside of the store from time to time and give it as
// the Anchor: then all before it is held, and who has the secrets cannot
// rewrite that either. Without Secrets the marks are plain SHA-256: they show
// accidents and clumsy hands, and anybody who knows this page can compute them
// anew; only an Anchor helps.
//
// Errors: ErrInvalid where the Anchor or From lies before what CutAudit dropped
// (nothing is left to hold it to), or the Anchor before From, and the store's.
// A breach is no error.
func (s *Service) Verify(ctx context.Context, org string, v Verify) (Verified, error) {
	if err := s.begin("verify"); err != nil {
		return Verified{}, err
	}
	out, err := s.verify(ctx, org, v, 0)
	if err != nil {
		err = fmt.Errorf("saccount: verify: %w", err)
	}
	return out, err
}

// AuditHead is where the audit log of an organization ends: the Head to keep
// outside of the store. Verify first: it is read, not checked.
func (s *Service) AuditHead(ctx context.Context, org string) (Head, error) {
	if err := s.begin("audit head"); err != nil {
		return Head{}, err
	}
	_, head, err := s.store.AuditEnds(ctx, org)
	if err != nil {
		return Head{}, fmt.Errorf("saccount: audit head: %w", err)
	}
	return head, nil
}

// reader reads a log one entry after the other, and one ahead.
type reader struct {
	store Store
	org   string
	page  []Entry
	after int64 // the last number that was read
	over  bool
}

// peek is the entry i places on; nil where the log ends before.
func (r *reader) peek(ctx context.Context, i int) (*Entry, error) {
	for len(r.page) <= i && !r.over {
		es, err := r.store.Audit(ctx, r.org, r.after, MaxPage)
		if err != nil {
			return nil, err
		}
		if r.over = len(es) == 0; !r.over {
			r.page, r.after = append(append([]Entry(nil), r.page...), es...), es[len(es)-1].Seq
		}
	}
	if i >= len(r.page) {
		return nil, nil
	}
	return &r.page[i], nil
}

func (r *reader) next() { r.page = r.page[1:] }

// check is a verification under way.
type check struct {
	s     *Service
	org   string
	opt   Verify
	log   reader
	out   Verified
	keyed bool // an entry was sealed with a secret
	kinds map[string]sealer
}

// verify verifies through an entry; 0: through the last.
func (s *Service) verify(ctx context.Context, org string, opt Verify, through int64) (Verified, error) {
	for try := 1; ; try++ {
		cut, head, err := s.store.AuditEnds(ctx, org)
		if err != nil {
			return Verified{}, err
		}
		if through == 0 {
			through = max(head.Seq, opt.Anchor.Seq, opt.From.Seq)
		}
		c := &check{s: s, org: org, opt: opt, kinds: map[string]sealer{}}
		c.log = reader{store: s.store, org: org, after: cut.Through}
		c.out = Verified{Through: cut.Through, Head: Head{cut.Through, cut.Mark}}
		if err := c.run(ctx, cut, through); err != nil {
			return c.out, err
		}
		if c.out.Bad == nil {
			return c.out, nil
		}
		// Where the front was cut meanwhile, what seems to be missing is not.
		now, _, err := s.store.AuditEnds(ctx, org)
		if err != nil || now == cut || try == maxTries {
			return c.out, err
		}
	}
}

func (c *check) bad(seq int64, kind BreachKind, format string, args ...any) error {
	c.out.Bad = &Breach{seq, kind, fmt.Sprintf(format, args...)}
	return nil
}

func (c *check) run(ctx context.Context, cut Cut, through int64) error {
	if ok, err := c.front(ctx, cut); err != nil || !ok {
		return err
	}
	a, from := c.opt.Anchor, c.opt.From
	switch {
	case c.opt.Most < 0:
		return invalidf("Most %d: give 0 for all, or how many entries to look at", c.opt.Most)
	case from.Seq < 0 || from.Seq > 0 && from.Mark == "":
		return invalidf("from: give the Head of a Verified")
	case from.Seq > 0 && from.Seq < cut.Through:
		return invalidf("from: entries through %d were cut, and it is the head of entry %d; begin anew", cut.Through, from.Seq)
	case a.Seq > 0 && a.Seq < from.Seq:
		return invalidf("anchor: it is entry %d, which lies before entry %d to go on from; leave it out, or begin anew", a.Seq, from.Seq)
	case a.Seq < 0 || a.Seq > 0 && a.Mark == "":
		return invalidf("anchor: give a Head as AuditHead gave it")
	case a.Seq > 0 && a.Seq < cut.Through:
		return invalidf("anchor: entries through %d were cut, and it is the head of entry %d; give a later one", cut.Through, a.Seq)
	case a.Seq > 0 && a.Seq == cut.Through && a.Mark != cut.Mark:
		return c.bad(a.Seq, BreachReplaced, "the last entry that was cut is not the anchored one")
	}
	if from.Seq > 0 {
		if ok, err := c.goOn(ctx, cut, from); err != nil || !ok {
			return err
		}
		if a.Seq == from.Seq && a.Mark != from.Mark {
			return c.bad(a.Seq, BreachReplaced, "entry %d is not the anchored one: the log was written anew", a.Seq)
		}
	}
	for c.out.Head.Seq < through {
		e, err := c.log.peek(ctx, 0)
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		if c.opt.Most > 0 && c.out.Entries == c.opt.Most {
			c.out.More = true
			return nil
		}
		if ok, err := c.entry(ctx, e); err != nil || !ok {
			return err
		}
		if e.Seq == a.Seq && e.Mark != a.Mark {
			return c.bad(e.Seq, BreachReplaced, "entry %d is not the anchored one: the log was written anew", e.Seq)
		}
		c.out.Entries++
		c.out.Head = Head{e.Seq, e.Mark}
		c.log.next()
	}
	if a.Seq > c.out.Head.Seq {
		return c.bad(c.out.Head.Seq+1, BreachCutTail, "the log ends with entry %d, and the anchor is entry %d", c.out.Head.Seq, a.Seq)
	}
	return nil
}

// front checks where the log begins. ok is false where a breach was found.
func (c *check) front(ctx context.Context, cut Cut) (ok bool, err error) {
	first, err := c.log.peek(ctx, 0)
	if err != nil {
		return false, err
	}
	if cut.Through != 0 {
		id := ""
		for i := range cut.Seal {
			if cut.Seal[i] == ':' {
				id = cut.Seal[:i]
				break
			}
		}
		k, known, err := c.sealer(id)
		if err != nil {
			return false, err
		}
		switch {
		case !known:
			return false, c.bad(cut.Through+1, BreachSecret, "what was cut is sealed with the secret %.40q, which the Config does not have", id)
		case id == "" && c.lockedOut():
			return false, c.bad(cut.Through+1, BreachUnkeyed, "what was cut is sealed without a secret")
		case k.cut(cut.Through, cut.Mark) != cut:
			return false, c.bad(cut.Through+1, BreachCutFront, "entries through %d are gone, and what says so is not the Service's", cut.Through)
		}
		c.keyed = c.keyed || id != ""
		return true, nil
	}
	if first != nil {
		return true, nil
	}
	// Whatever was made was made with an entry.
	_, err = c.s.store.Lookup(ctx, c.org, KindOrg, c.org)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	if err == nil {
		err = c.bad(1, BreachRemoved, "the organization is there, and its whole audit log is gone")
	}
	return false, err
}

// goOn goes to the entry that a check before ended with. ok is false where a
// breach was found.
func (c *check) goOn(ctx context.Context, cut Cut, from Head) (ok bool, err error) {
	if from.Seq == cut.Through {
		if from.Mark != cut.Mark {
			return false, c.bad(from.Seq, BreachReplaced, "the last entry that was cut is not the one to go on from")
		}
		return true, nil
	}
	c.log = reader{store: c.s.store, org: c.org, after: from.Seq - 1}
	e, err := c.log.peek(ctx, 0)
	if err != nil {
		return false, err
	}
	switch {
	case e == nil:
		return false, c.bad(from.Seq, BreachCutTail, "the log ends before entry %d, which was there", from.Seq)
	case e.Seq != from.Seq:
		return false, c.bad(from.Seq, BreachRemoved, "entry %d is gone, which was there", from.Seq)
	case e.Mark != from.Mark:
		return false, c.bad(from.Seq, BreachReplaced, "entry %d is not the one that was there: the log was written anew", from.Seq)
	}
	if _, genuine, err := c.is(e); err != nil || !genuine {
		if err == nil {
			err = c.bad(from.Seq, BreachChanged, "entry %d is not as it was written", from.Seq)
		}
		return false, err
	}
	m, _ := parseMark(e.Mark) // it was read above
	c.keyed = c.keyed || m.secret != ""
	c.out.Head = from
	c.log.next()
	return true, nil
}

// lockedOut reports whether plain SHA-256 is not good here any more.
func (c *check) lockedOut() bool {
	_, has := c.s.secret.newest()
	return has && (!c.opt.Unkeyed || c.keyed)
}

func (c *check) sealer(id string) (k sealer, known bool, err error) {
	if k, known = c.kinds[id]; known {
		return k, true, nil
	}
	if k, known, err = c.s.sealer(c.org, id); known && err == nil {
		c.kinds[id] = k
	}
	return k, known, err
}

// is reports whether an entry is one that was written under the number that
// its mark names.
func (c *check) is(e *Entry) (number int64, genuine bool, err error) {
	m, ok := parseMark(e.Mark)
	if !ok {
		return 0, false, nil
	}
	k, known, err := c.sealer(m.secret)
	if err != nil || !known {
		return 0, false, err
	}
	return m.seq, k.genuine(m, e), nil
}

// entry checks the entry that stands next. ok is false where a breach was found.
func (c *check) entry(ctx context.Context, e *Entry) (ok bool, err error) {
	seq := c.out.Head.Seq + 1
	if e.Seq != seq {
		return false, c.missing(ctx, seq, e.Seq-1)
	}
	m, ok := parseMark(e.Mark)
	switch {
	case e.Mark == "":
		return false, c.bad(seq, BreachUnmarked, "entry %d has no mark", seq)
	case !ok:
		return false, c.bad(seq, BreachChanged, "the mark of entry %d cannot be read", seq)
	case m.secret == "" && c.lockedOut():
		return false, c.bad(seq, BreachUnkeyed, "entry %d is chained without a secret", seq)
	}
	k, known, err := c.sealer(m.secret)
	if err != nil {
		return false, err
	}
	if !known {
		return false, c.bad(seq, BreachSecret, "entry %d is sealed with the secret %.40q, which the Config does not have", seq, m.secret)
	}
	switch {
	case !k.genuine(m, e):
		return false, c.forged(ctx, e, seq)
	case m.seq > seq:
		return false, c.missing(ctx, seq, m.seq-1)
	case m.seq < seq:
		return false, c.bad(seq, BreachInserted, "entry %d is a copy of entry %d", seq, m.seq)
	case !k.follows(m, c.out.Head.Mark, e):
		return false, c.bad(seq, BreachReplaced, "entry %d was written behind another log than the one before it", seq)
	}
	if m.secret == "" {
		c.out.Unkeyed++
	} else {
		c.keyed = true
	}
	return true, nil
}

// forged says what an entry is that was never written under its mark.
func (c *check) forged(ctx context.Context, e *Entry, seq int64) error {
	var data kept
	if json.Unmarshal(e.Data, &data) == nil && data.Org != "" && data.Org != c.org {
		if m, ok := parseMark(e.Mark); ok {
			other, known, err := c.s.sealer(data.Org, m.secret)
			if err != nil {
				return err
			}
			if known && other.genuine(m, e) {
				return c.bad(seq, BreachCopied, "entry %d is entry %d of organization %.128q", seq, m.seq, data.Org)
			}
		}
	}
	next, err := c.log.peek(ctx, 1)
	if err != nil {
		return err
	}
	if next != nil {
		n, genuine, err := c.is(next)
		if err != nil {
			return err
		}
		if genuine && n == seq {
			return c.bad(seq, BreachInserted, "entry %d was never written: the one that was stands behind it", seq)
		}
	}
	return c.bad(seq, BreachChanged, "entry %d is not as it was written", seq)
}

// missing says what became of entry seq, where another stands in its place.
func (c *check) missing(ctx context.Context, seq, last int64) error {
	for looked := int64(0); c.opt.Most == 0 || looked < c.opt.Most; looked++ {
		e, err := c.log.peek(ctx, 0)
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		n, genuine, err := c.is(e)
		if err != nil {
			return err
		}
		if genuine && n == seq {
			return c.bad(seq, BreachReordered, "entry %d stands at %d", seq, e.Seq)
		}
		c.log.next()
	}
	if seq == 1 {
		return c.bad(seq, BreachCutFront, "entries 1 to %d are gone, and no Service cut them", last)
	}
	return c.bad(seq, BreachRemoved, "entries %d to %d are gone", seq, last)
}

// ErrTampered: an audit log is not what was written; see Service.Verify.
var ErrTampered = errors.New("the audit log is not what was written")
