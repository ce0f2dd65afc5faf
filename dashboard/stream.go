package dashboard

import (
	"errors"
	"io"
	"net/http"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// file is an answer to be kept as a file.
type file struct {
	media, name string
	write       func(io.Writer) error
}

// Media types of files.
const (
	typeCSV   = "text/csv; charset=utf-8"
	typeJSONL = "application/jsonl; charset=utf-8"
)

var (
	fileTypes   = []string{"text/csv", "application/jsonl"}
	formatParam = param{name: "format", doc: "csv, for spreadsheets, or jsonl, the default, which can be read back exactly", schema: map[string]any{"type": "string", "enum": []string{"csv", "jsonl"}}}
)

// formatOf reads which kind of file is asked for.
func formatOf(s string) (f saccount.Format, media string, err error) {
	switch s {
	case "", "jsonl":
		return saccount.FormatJSONL, typeJSONL, nil
	case "csv":
		return saccount.FormatCSV, typeCSV, nil
	}
	return "", "", badParam("format", "give csv or jsonl")
}

// heldBack is how much of a file is written before any of it is sent: what goes
// wrong until then is answered as what it is.
const heldBack = 32 << 10

// stream answers with a file, as it is made. An error is one to answer with; one
// that comes after the first bytes were sent breaks the connection, so that the
// file does not look whole.
func (c *call) stream(f *file) error {
	s := &streamed{c: c, file: f}
	err := f.write(s)
	switch {
	case s.sent && (err == nil || errors.Is(err, errEnough)):
		return nil
	case s.sent:
		c.cfg.Logger.WarnContext(c.ctx, "keypurse: an export of the dashboard broke off", "error", err)
		panic(http.ErrAbortHandler)
	case err != nil:
		return err
	}
	s.head()
	web.Write(c.w, c.r, http.StatusOK, f.media, s.held)
	return nil
}

// streamed is where a file is written to.
type streamed struct {
	*file
	c    *call
	held []byte
	sent bool
}

// errEnough ends the writing of what nobody reads: the body of a HEAD.
var errEnough = errors.New("the answer has no body")

func (s *streamed) head() {
	s.c.w.Header().Set("Content-Disposition", `attachment; filename="`+s.name+`"`)
}

func (s *streamed) Write(p []byte) (int, error) {
	if !s.sent {
		if len(s.held)+len(p) <= heldBack {
			s.held = append(s.held, p...)
			return len(p), nil
		}
		s.sent = true
		s.head()
		s.c.w.Header().Set("Content-Type", s.media)
		s.c.w.WriteHeader(http.StatusOK)
		if s.c.r.Method == http.MethodHead {
			return 0, errEnough
		}
		if _, err := s.c.w.Write(s.held); err != nil {
			return 0, err
		}
		s.held = nil
	}
	return s.c.w.Write(p)
}
