package usage

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Export says how series are written. The zero Export is good.
type Export struct {
	// Label is the name to show for a subject, asked for once a series, with
	// "" for the sum of several subjects. The text may be hostile. Nil names
	// none.
	Label func(quota.Subject) string
	// Reasons are the host's own reasons that have a column in CSV, beside the
	// library's: at most 100, of the form of quota.Reason, each once.
	Reasons []quota.Reason
}

// maxColumns bounds Export.Reasons.
const maxColumns = 100

// WriteCSV writes series, as Each gives them, as CSV (RFC 4180: commas, CRLF),
// one row a point, streamed: what w has no room for is waited for, and one
// series is in memory at a time. The columns:
//
//	subject, name      text, see SafeCell; subject is empty for a sum
//	start, end         RFC 3339, in the query's zone
//	credits            an exact decimal
//	requests           admitted
//	refused            for all reasons
//	refused_<reason>   for limit, rate, scope, address, disabled, expired, then
//	                   Export.Reasons
//	refused_other      for every other reason
//	partial, coarse    true or false, see Point
//
// The first error that series gives, and the first of w, ends it and is
// returned, wrapped; whole rows may have been written. An Export that is wrong
// is an error that wraps quota.ErrInvalid, and nothing was written.
func WriteCSV(w io.Writer, series iter.Seq2[Series, error], e Export) error {
	reasons, err := e.reasons()
	if err != nil {
		return fmt.Errorf("usage: write CSV: %w", err)
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	row := []string{"subject", "name", "start", "end", "credits", "requests", "refused"}
	for _, r := range reasons {
		row = append(row, "refused_"+string(r))
	}
	row = append(row, "refused_other", "partial", "coarse")
	if err := out.Write(row); err != nil {
		return fmt.Errorf("usage: write CSV: %w", err)
	}
	for s, err := range series {
		if err != nil {
			out.Flush()
			return fmt.Errorf("usage: write CSV: %w", err)
		}
		subject, name := SafeCell(string(s.Subject)), SafeCell(e.label(s.Subject))
		for i := range s.Points {
			p := &s.Points[i]
			row = append(row[:0], subject, name,
				p.Start.Format(time.RFC3339), p.End.Format(time.RFC3339),
				p.Credits.String(), strconv.FormatInt(p.Requests, 10), strconv.FormatInt(p.Refused, 10))
			other := p.Refused
			for _, r := range reasons {
				n := p.Reasons.Of(r)
				other -= n
				row = append(row, strconv.FormatInt(n, 10))
			}
			row = append(row, strconv.FormatInt(other, 10), strconv.FormatBool(p.Partial), strconv.FormatBool(p.Coarse))
			if err := out.Write(row); err != nil {
				return fmt.Errorf("usage: write CSV: %w", err)
			}
		}
		if out.Flush(); out.Error() != nil {
			return fmt.Errorf("usage: write CSV: %w", out.Error())
		}
	}
	if out.Flush(); out.Error() != nil {
		return fmt.Errorf("usage: write CSV: %w", out.Error())
	}
	return nil
}

// line is a point in JSON lines.
type line struct {
	Subject quota.Subject `json:"subject"`
	Name    string        `json:"name"`
	Point
}

// WriteJSONL writes series, as Each gives them, as JSON lines: one object a
// point, with subject, name, start, end, credits (a string, exact), requests,
// refused, reasons (an object; left out where there is none), partial and coarse
// (left out where false). It streams and fails as WriteCSV does. < > and & are
// escaped, so that a line may stand in HTML.
func WriteJSONL(w io.Writer, series iter.Seq2[Series, error], e Export) error {
	if _, err := e.reasons(); err != nil {
		return fmt.Errorf("usage: write JSON lines: %w", err)
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	for s, err := range series {
		if err != nil {
			_ = out.Flush() // the error that ended the series is the one to tell
			return fmt.Errorf("usage: write JSON lines: %w", err)
		}
		l := line{Subject: s.Subject, Name: e.label(s.Subject)}
		for i := range s.Points {
			l.Point = s.Points[i]
			if err := enc.Encode(&l); err != nil {
				return fmt.Errorf("usage: write JSON lines: %w", err)
			}
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("usage: write JSON lines: %w", err)
		}
	}
	return nil
}

func (e *Export) label(s quota.Subject) string {
	if e.Label == nil {
		return ""
	}
	return e.Label(s)
}

// reasons are those with a column.
func (e *Export) reasons() ([]quota.Reason, error) {
	if len(e.Reasons) > maxColumns {
		return nil, fmt.Errorf("columns for %d reasons, at most %d: %w", len(e.Reasons), maxColumns, quota.ErrInvalid)
	}
	all := []quota.Reason{quota.ReasonLimit, quota.ReasonRate, quota.ReasonScope, quota.ReasonAddress, quota.ReasonDisabled, quota.ReasonExpired}
	for i, r := range e.Reasons {
		if !reasonOK(r) || r == "other" {
			return nil, fmt.Errorf(`reason %d has no name of 1 to 32 of a-z and "_", or is "other": %w`, i+1, quota.ErrInvalid)
		}
		if slices.Contains(all, r) {
			return nil, fmt.Errorf("reason %d has a column already: %w", i+1, quota.ErrInvalid)
		}
		all = append(all, r)
	}
	return all, nil
}

func reasonOK(r quota.Reason) bool {
	for _, c := range []byte(r) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return len(r) >= 1 && len(r) <= 32
}
