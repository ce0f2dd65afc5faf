package apikey_test

import (
	"testing"

	"github.com/keypurse/keypurse/apikey"
)

func BenchmarkParse(b *testing.B) {
	prefix := mustPrefix(b, "acme_live")
	text := mustGenerate(b, prefix).Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := apikey.Parse(text, prefix); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseMalformed(b *testing.B) {
	prefix := mustPrefix(b, "acme_live")
	text := mustGenerate(b, prefix).Reveal()
	text = text[:len(text)-1] + "-"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := apikey.Parse(text, prefix); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	parsed := mustGenerate(b, mustPrefix(b, "acme_live")).Parsed()
	for _, bench := range []struct {
		name    string
		peppers []apikey.Pepper
	}{
		{"unpeppered", nil},
		{"pepper", []apikey.Pepper{fakePepper("2025"), fakePepper("2026")}},
	} {
		h := mustHasher(b, bench.peppers...)
		stored := h.Hash(parsed)
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, _ := h.Verify(parsed, stored); !ok {
					b.Fatal("refused")
				}
			}
		})
		b.Run(bench.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if ok, _ := h.Verify(parsed, stored); !ok {
						b.Error("refused")
					}
				}
			})
		})
	}
}

// BenchmarkParseVerify is the hot path of a request up to the look-up.
func BenchmarkParseVerify(b *testing.B) {
	prefix := mustPrefix(b, "acme_live")
	h := mustHasher(b, fakePepper("2026"))
	token := mustGenerate(b, prefix)
	text, stored := token.Reveal(), h.Hash(token.Parsed())
	b.ReportAllocs()
	for b.Loop() {
		parsed, err := apikey.Parse(text, prefix)
		if err != nil {
			b.Fatal(err)
		}
		if ok, _ := h.Verify(parsed, stored); !ok {
			b.Fatal("refused")
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	prefix := mustPrefix(b, "acme_live")
	b.ReportAllocs()
	for b.Loop() {
		mustGenerate(b, prefix)
	}
}
