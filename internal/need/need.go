// Package need is for tests that need a program which a machine may lack. They
// are skipped with a line that says what to type, and fail where CI is set: a
// green run cannot hide them.
package need

import (
	"errors"
	"os"
	"testing"
)

// Missing is the error of what is not on this machine. Its text says what to
// type to have it.
type Missing string

func (m Missing) Error() string { return string(m) }

// Have skips a test where err is a Missing, but not under CI, and ends it on any
// other error.
func Have(tb testing.TB, err error) {
	tb.Helper()
	var m Missing
	switch {
	case err == nil:
	case errors.As(err, &m) && os.Getenv("CI") == "":
		tb.Skip(err)
	default:
		tb.Fatal(err)
	}
}
