package saccount

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keypurse/keypurse/quota"
)

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "Production Worker", " x ", "a\u202eb", "a\x00b", "\xff", strings.Repeat("é", 100), strings.Repeat("é", 101), "\u2028", "=cmd()"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := text("name", s, 1, MaxName)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		again, err := text("name", got, 1, MaxName)
		if err != nil || again != got {
			t.Fatalf("%q became %q, and that %q, %v", s, got, again, err)
		}
		if n := utf8.RuneCountInString(got); n < 1 || n > MaxName || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\n\r\t\u202e\u2066\u200f") {
			t.Fatalf("%q was let through", got)
		}
		AdviseName(got)
	})
}

// Data comes from a file: whatever is in it, it is read or refused.
func FuzzReadNode(f *testing.F) {
	n := node{Record: Record{Kind: KindKey, Org: "acme", ID: "k", Parent: "sa_1", Name: "x"}}
	n.Limits = []quota.Limit{{Name: "credits", Max: 5, Number: 1, Period: quota.Period{Unit: quota.Month, Zone: "UTC"}}}
	n.Sequence, n.Scopes = 1, []string{"read"}
	rec, err := n.record()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec.Data)
	f.Add([]byte(`{"limits":[{"name":"credits","max":"1e9","number":1}]}`))
	f.Add([]byte(`{"secrets":[{"serial":1,"hash":"sha256:zz"}]}`))
	f.Add([]byte(`{"allow_from":["203.0.113.0/99"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := readNode(Record{Kind: KindKey, Org: "acme", ID: "k", Data: data})
		if err != nil {
			if !errors.Is(err, quota.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if _, err := n.record(); err != nil {
			t.Fatal(err)
		}
	})
}
