package pgstore

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// A look-up's row comes as one text, ROW(...)::text: to bring thirty columns through
// a driver and database/sql takes more time than the server takes to find them.

// fields reads the text of a row as the server writes it
// (https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX):
// nothing is NULL; what is empty or has a special character in it is in quotes,
// where quotes and backslashes are doubled. Bytes are in hex without a prefix. What
// cannot be read is noted in err, and reads as NULL.
type fields struct {
	rest string // from the next field on
	err  error
}

var errFields = errors.New("a row's text cannot be read")

func fieldsOf(row string) fields {
	rest, ok := strings.CutPrefix(row, "(")
	if !ok {
		return fields{err: errFields}
	}
	return fields{rest: rest}
}

// text is the next field, which shares the row's memory where it can.
func (f *fields) text() (s sql.NullString) {
	if f.err != nil {
		return s
	}
	if strings.HasPrefix(f.rest, `"`) {
		s.String, s.Valid = f.quoted()
	} else if n := strings.IndexAny(f.rest, `,)`); n >= 0 {
		s.String, f.rest = f.rest[:n], f.rest[n:]
		s.Valid = n > 0
		if strings.ContainsAny(s.String, `"\(`) {
			f.err = errFields
		}
	} else {
		f.err = errFields
	}
	switch { // what separates, or ends the row
	case f.err != nil:
	case strings.HasPrefix(f.rest, ","):
		f.rest = f.rest[1:]
	case f.rest == ")":
		f.rest = ""
	default:
		f.err = errFields
	}
	if f.err != nil {
		return sql.NullString{}
	}
	return s
}

func (f *fields) quoted() (string, bool) {
	text := f.rest[1:]
	var read []byte // before text
	for {
		end := strings.IndexAny(text, `"\`)
		switch {
		case end < 0:
			f.err = errFields
			return "", false
		case end+1 < len(text) && text[end+1] == text[end]: // doubled
			read = append(read, text[:end+1]...)
			text = text[end+2:]
		case text[end] == '"':
			f.rest = text[end+1:]
			if read == nil {
				return text[:end], true
			}
			return string(append(read, text[:end]...)), true
		default:
			f.err = errFields
			return "", false
		}
	}
}

func (f *fields) number() (n sql.NullInt64) {
	s := f.text()
	if !s.Valid {
		return n
	}
	x, err := strconv.ParseInt(s.String, 10, 64)
	if err != nil {
		f.err = errFields
		return n
	}
	return sql.NullInt64{Int64: x, Valid: true}
}

func (f *fields) truth() (b sql.NullBool) {
	s := f.text()
	if s.Valid && s.String != "t" && s.String != "f" {
		f.err = errFields
	}
	return sql.NullBool{Bool: s.String == "t", Valid: s.Valid}
}

// bytes are never nil where they are not NULL.
func (f *fields) bytes() []byte {
	s := f.text()
	if !s.Valid {
		return nil
	}
	b, err := hex.DecodeString(s.String)
	if err != nil {
		f.err = errFields
	}
	return b
}

// fields reads the columns of into. Its texts share no memory with the row: what a
// Service keeps of them is small, and the row is not.
func (w *raw) fields(f *fields) {
	w.org, w.kind, w.id, w.parent, w.name = f.text(), f.number(), f.text(), f.text(), f.text()
	for _, s := range []*sql.NullString{&w.org, &w.id, &w.parent, &w.name} {
		s.String = strings.Clone(s.String)
	}
	w.disabled, w.created, w.deleted, w.expires = f.truth(), f.number(), f.number(), f.number()
	w.labels, w.revision, w.data = f.text(), f.number(), f.bytes()
}

// aboveFields reads the columns of above.
func (w *raw) aboveFields(f *fields) {
	w.name, w.disabled, w.created, w.deleted = f.text(), f.truth(), f.number(), f.number()
	w.name.String = strings.Clone(w.name.String)
	w.labels, w.revision, w.data = f.text(), f.number(), f.bytes()
}

// parseLineage reads the row of a look-up that is one text.
func parseLineage(row string) (saccount.Lineage, error) {
	var r, a, g raw
	f := fieldsOf(row)
	r.fields(&f)
	r.at, r.addr = f.number().Int64, strings.Clone(f.text().String)
	a.aboveFields(&f)
	g.aboveFields(&f)
	settings := f.number()
	if f.err == nil && (f.rest != "" || !settings.Valid || !r.id.Valid) {
		f.err = errFields
	}
	if f.err != nil {
		return saccount.Lineage{}, f.err
	}
	return lineage(&r, &a, &g, settings.Int64)
}
