package saccount

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/usage"
)

// WriteAuditCSV writes entries, as Service.AuditEntries gives them, as CSV (RFC
// 4180: commas, CRLF), one row an entry, streamed. The columns are seq, at (RFC
// 3339, UTC), org, actor, action, subject, addr, request, reason, before, after
// (JSON) and mark. Text that a spreadsheet would run is made text: see
// usage.SafeCell; for a copy that can be read back exactly, use WriteAuditJSONL.
// The first error that entries gives, and the first of w, ends it and is
// returned, wrapped; whole rows may have been written.
func WriteAuditCSV(w io.Writer, entries iter.Seq2[AuditEntry, error]) error {
	fail := func(err error) error { return fmt.Errorf("saccount: write audit CSV: %w", err) }
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write([]string{"seq", "at", "org", "actor", "action", "subject", "addr", "request", "reason", "before", "after", "mark"}); err != nil {
		return fail(err)
	}
	for e, err := range entries {
		if err != nil {
			out.Flush()
			return fail(err)
		}
		row := []string{strconv.FormatInt(e.Seq, 10), e.At.UTC().Format(time.RFC3339Nano)}
		for _, text := range []string{e.Org, string(e.Actor), e.Action, string(e.Subject), e.Addr, e.Request, e.Reason, string(e.Before), string(e.After), e.Mark} {
			row = append(row, usage.SafeCell(text))
		}
		if err := out.Write(row); err != nil {
			return fail(err)
		}
	}
	if out.Flush(); out.Error() != nil {
		return fail(out.Error())
	}
	return nil
}

// WriteAuditJSONL writes entries as JSON lines, one AuditEntry a line. It
// streams and fails as WriteAuditCSV does. < > and & are escaped.
func WriteAuditJSONL(w io.Writer, entries iter.Seq2[AuditEntry, error]) error {
	fail := func(err error) error { return fmt.Errorf("saccount: write audit JSON lines: %w", err) }
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	for e, err := range entries {
		if err != nil {
			_ = out.Flush() // the error that ended the entries is the one to tell
			return fail(err)
		}
		if err := enc.Encode(&e); err != nil {
			return fail(err)
		}
	}
	if err := out.Flush(); err != nil {
		return fail(err)
	}
	return nil
}
