package pgstore

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// Arrays go to the server in their text form, which every driver passes on and
// every way of pooling knows: an array is one parameter, whatever its length.

// ints makes the text of a bigint[].
type ints struct{ b []byte }

func (a *ints) add(n int64) {
	a.next()
	a.b = strconv.AppendInt(a.b, n, 10)
}

// none adds a NULL.
func (a *ints) none() {
	a.next()
	a.b = append(a.b, "NULL"...)
}

func (a *ints) next() { a.b = next(a.b) }

func (a *ints) String() string { return closed(a.b) }

// texts makes the text of a text[].
type texts struct{ b []byte }

func (a *texts) add(s string) {
	a.b = append(next(a.b), '"')
	if strings.ContainsAny(s, `"\`) {
		for i := range len(s) {
			if s[i] == '"' || s[i] == '\\' {
				a.b = append(a.b, '\\')
			}
			a.b = append(a.b, s[i])
		}
	} else {
		a.b = append(a.b, s...)
	}
	a.b = append(a.b, '"')
}

func (a *texts) none() { a.b = append(next(a.b), "NULL"...) }

func (a *texts) String() string { return closed(a.b) }

// blobs makes the text of a bytea[].
type blobs struct{ b []byte }

func (a *blobs) add(v []byte) {
	a.b = append(next(a.b), `"\\x`...)
	a.b = hex.AppendEncode(a.b, v)
	a.b = append(a.b, '"')
}

func (a *blobs) none() { a.b = append(next(a.b), "NULL"...) }

func (a *blobs) String() string { return closed(a.b) }

func next(b []byte) []byte {
	if len(b) == 0 {
		return append(b, '{')
	}
	return append(b, ',')
}

func closed(b []byte) string {
	if len(b) == 0 {
		return "{}"
	}
	return string(b) + "}"
}
