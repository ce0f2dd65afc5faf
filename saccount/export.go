package saccount

import (
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Format is how usage is written.
type Format string

// The formats: see usage.WriteCSV and usage.WriteJSONL.
const (
	FormatCSV   Format = "csv"
	FormatJSONL Format = "jsonl"
)

// ExportUsage writes the series of a query, streamed: any number of subjects
// takes the memory of a few, and nothing is held while w is waited for. Where
// e.Label is nil the names are those of the records, deleted ones too. Errors:
// ErrInvalid, the store's and those of w; what was written until then are whole
// rows.
func (s *Service) ExportUsage(ctx context.Context, w io.Writer, f Format, q usage.Query, e usage.Export) error {
	write := usage.WriteCSV
	switch f {
	case FormatCSV:
	case FormatJSONL:
		write = usage.WriteJSONL
	default:
		return fmt.Errorf("saccount: export usage: %w format %.20q: give %q or %q", ErrInvalid, string(f), FormatCSV, FormatJSONL)
	}
	var names *names
	if e.Label == nil {
		names = newNames(ctx, s, q.Org)
		e.Label = names.of
	}
	err := write(w, s.EachUsage(ctx, q), e)
	if err == nil && names != nil {
		err = s.mark(names.err)
	}
	return alike(err) // what the store says was marked where it came from
}

// maxNames bounds the names that an export keeps in memory.
const maxNames = 16 * MaxPage

// names looks the names of records up, a page of a list at a time: who asks for
// all of them, more or less in order, asks the store once for a thousand.
type names struct {
	ctx   context.Context // of one export
	s     *Service
	org   string
	known map[quota.Subject]string
	err   error // the first, which ended the looking
}

func newNames(ctx context.Context, s *Service, org string) *names {
	return &names{ctx: ctx, s: s, org: org, known: map[quota.Subject]string{}}
}

// of is the name of a subject: "" where it has none or is not known.
func (n *names) of(sub quota.Subject) string {
	name, ok := n.known[sub]
	if ok || sub == "" || n.err != nil {
		return name
	}
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	n.known[sub] = ""
	if n.err = n.read(sub); n.err != nil {
		n.err = fmt.Errorf("saccount: export usage: read names: %w", n.err)
	}
	return n.known[sub]
}

func (n *names) read(sub quota.Subject) error {
	id := sub.ID()
	q := ListQuery{Org: n.org, Statuses: everyStatus, Limit: MaxPage, Now: n.s.now()}
	for q.Kind = KindOrg; q.Kind.String() != sub.Kind(); q.Kind++ {
		if q.Kind > KindKey {
			return nil
		}
	}
	if q.Kind == KindOrg { // there is one
		l, err := n.s.lookup(n.ctx, n.org, KindOrg, n.org)
		n.known[sub] = l.Record.Name
		return err
	}
	_, last := utf8.DecodeLastRuneInString(id)
	q.After = id[:len(id)-last] // before the id, and not far
	page, _, err := n.s.store.List(n.ctx, q)
	if err != nil {
		return err
	}
	for i := range page {
		n.known[quota.NewSubject(sub.Kind(), page[i].ID)] = page[i].Name
	}
	return nil
}
