package saccount

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// MaxMark bounds a Mark, in bytes.
const MaxMark = 128

// Head is where an audit log ends: the number and the mark of an entry. Kept
// outside of the store (in another system, in a mail, on paper) it is an
// anchor: what Service.Verify then holds the log to. It is no secret.
type Head struct {
	Seq  int64  `json:"seq"`            // 0: the log is empty
	Mark string `json:"mark,omitempty"` // empty: the entry has none
}

// Cut says what was dropped from the front of an audit log: the number and the
// mark of the last entry that was. Seal proves, like a mark, who dropped it.
// The zero Cut: nothing was.
type Cut struct {
	Through int64
	Mark    string
	Seal    string
}

// Sealed gives the batch's audit entries as a store appends them behind the
// entry that head names: numbered, cut to microseconds, each with its Mark, and
// with Data that the caller does not have. It is the one rule of Write, for
// every store; call it where nobody else can append to the organization's log
// before it is stored.
func (b *Batch) Sealed(head Head) []Entry {
	out := make([]Entry, 0, len(b.Audit))
	for _, e := range b.Audit {
		e.Seq, e.At, e.Data, e.Mark = head.Seq+1, Micro(e.At), append([]byte(nil), e.Data...), ""
		if b.Seal != nil {
			e.Mark = b.Seal(head.Mark, &e)
		}
		head = Head{e.Seq, e.Mark}
		out = append(out, e)
	}
	return out
}

// CheckCut checks the batch's Cut against the one that is stored and against
// the entry with the number Through as it is stored, nil where there is none:
// the one rule of Write, for every store. Errors: ErrConflict, ErrInvalid.
func (b *Batch) CheckCut(stored Cut, last *Entry) error {
	switch c := b.Cut; {
	case c == nil:
		return nil
	case c.Through < 1 || len(c.Mark) > MaxMark || len(c.Seal) > MaxMark:
		return fmt.Errorf("%w cut of the audit log through entry %d", ErrInvalid, c.Through)
	case c.Through <= stored.Through:
		return fmt.Errorf("%w: the audit log is cut through entry %d already", ErrConflict, stored.Through)
	case last == nil || last.Seq != c.Through || last.Mark != c.Mark:
		return fmt.Errorf("%w: the audit log has no such entry %d to be cut through", ErrConflict, c.Through)
	}
	return nil
}

// Marks. A mark is "id:seq:own:chain": the id of the secret it was made with
// (empty: none), the entry's number, a sum of the entry alone (the first 16
// bytes of it) and a sum of that and of the mark before. The first says, when
// something is wrong, whether an entry was changed or only moved; the second is
// what ties each entry to all before it. Sums are HMAC-SHA-256 under a key
// derived for the organization, or plain SHA-256; base64 (RFC 4648, section 5),
// without padding. What is summed begins with its use, and each part with its
// length.
type mark struct {
	secret string
	seq    int64
	own    string
	chain  string
}

func (m mark) String() string {
	return m.secret + ":" + strconv.FormatInt(m.seq, 10) + ":" + m.own + ":" + m.chain
}

func parseMark(s string) (m mark, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return m, false
	}
	seq, err := strconv.ParseInt(parts[1], 10, 64)
	return mark{parts[0], seq, parts[2], parts[3]}, err == nil
}

const ownLen = 16 // bytes of the own sum that a mark shows

var sumText = base64.RawURLEncoding

// sealer makes and checks the marks of one organization under one secret.
type sealer struct {
	org string
	id  string
	key []byte // nil: plain SHA-256
}

// sealer gives the one of a secret by its id. ok is false where it is not known.
func (s *Service) sealer(org, id string) (k sealer, ok bool, err error) {
	if id == "" {
		return sealer{org: org}, true, nil
	}
	x, ok := s.secret.find(id)
	if !ok {
		return k, false, nil
	}
	key, err := x.derive("audit log", org)
	return sealer{org, id, key}, true, err
}

// newest is the sealer for what is new.
func (s *Service) newestSealer(org string) (sealer, error) {
	x, _ := s.secret.newest()
	k, _, err := s.sealer(org, x.id)
	return k, err
}

func (k sealer) sum(use string, parts ...[]byte) []byte {
	var h hash.Hash
	if h = sha256.New(); k.key != nil {
		h = hmac.New(sha256.New, k.key)
	}
	put := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b)))) // a hash.Hash never returns an error
		h.Write(b)
	}
	put([]byte("keypurse audit " + use))
	for _, p := range parts {
		put(p)
	}
	return h.Sum(nil)
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// own is the sum of an entry alone, taken to have the number seq.
func (k sealer) own(seq int64, e *Entry) []byte {
	at := int64(0)
	if !e.At.IsZero() {
		at = e.At.UnixMicro()
	}
	return k.sum("entry", []byte(k.org), number(seq), number(at), e.Data)
}

func (k sealer) chain(prev string, own []byte) string {
	return sumText.EncodeToString(k.sum("chain", []byte(prev), own))
}

// seal is Batch.Seal.
func (k sealer) seal(prev string, e *Entry) string {
	own := k.own(e.Seq, e)
	return mark{k.id, e.Seq, sumText.EncodeToString(own[:ownLen]), k.chain(prev, own)}.String()
}

// genuine reports whether the entry is, by itself, one that was sealed under
// the number that its mark names, wherever it stands now.
func (k sealer) genuine(m mark, e *Entry) bool {
	own := k.own(m.seq, e)
	return hmac.Equal([]byte(m.own), []byte(sumText.EncodeToString(own[:ownLen])))
}

// follows reports whether the entry follows the mark prev.
func (k sealer) follows(m mark, prev string, e *Entry) bool {
	return hmac.Equal([]byte(m.chain), []byte(k.chain(prev, k.own(m.seq, e))))
}

// cut seals the dropping of entries through one with a mark.
func (k sealer) cut(through int64, mark string) Cut {
	return Cut{through, mark, k.id + ":" + sumText.EncodeToString(k.sum("cut", []byte(k.org), number(through), []byte(mark)))}
}
