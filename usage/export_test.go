package usage_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Names as a spreadsheet must see them. An apostrophe makes text of what would
// be run.
var hostileNames = map[string]string{
	"":                                 "",
	"Production API Key":               "Production API Key",
	"=1+1":                             "'=1+1",
	"+1":                               "'+1",
	"-1":                               "'-1",
	"@SUM(A1)":                         "'@SUM(A1)",
	"\tx":                              "'\tx",
	"\rx":                              "'\rx",
	"\nx":                              "'\nx",
	"\t=1":                             "'\t'=1",
	" =1":                              "' =1",
	"\u00a0=1":                         "'\u00a0=1",
	"\ufeff=1":                         "'\ufeff=1",
	"\u200b=1":                         "'\u200b=1",
	"\u202e=1":                         "'\u202e=1",
	"\x00=1":                           "'\x00=1",
	`"=1+1"`:                           `'"=1+1"`,
	"＝1":                               "'＝1",
	"＋1":                               "'＋1",
	"－1":                               "'－1",
	"＠x":                               "'＠x",
	"a=b":                              "a=b",
	"a-b+c@d":                          "a-b+c@d",
	"a, -b":                            "a, -b",
	"'=1":                              "'=1",
	"a;=1":                             "a;'=1",
	"a;b;=1":                           "a;b;'=1",
	`a;"=1"`:                           `a;'"=1"`,
	";=1":                              ";'=1",
	"a\n=1":                            "a\n'=1",
	"a\r\n=1":                          "a\r\n'=1",
	"a\t@x":                            "a\t'@x",
	"a;b":                              "a;b",
	"\xff=1":                           "\ufffd=1", // begins with a replacement character, which is text
	"=\xff":                            "'=\ufffd",
	"=HYPERLINK(\"http://x\",\"y\")":   "'=HYPERLINK(\"http://x\",\"y\")",
	"=cmd|' /C calc'!A0":               "'=cmd|' /C calc'!A0",
	"<script>alert(1)</script>":        "<script>alert(1)</script>",
	"=":                                "'=",
	"-":                                "'-",
	"   ":                              "   ",
	"\u0301=1":                         "'\u0301=1",
	strings.Repeat(" ", 100_000) + "=": "'" + strings.Repeat(" ", 100_000) + "=",
}

func TestSafeCell(t *testing.T) {
	for name, want := range hostileNames {
		assert.Equal(t, want, usage.SafeCell(name), "%.40q", name)
	}
}

func FuzzSafeCell(f *testing.F) {
	for name := range hostileNames {
		if len(name) < 1000 {
			f.Add(name)
		}
	}
	f.Fuzz(func(t *testing.T, name string) {
		cell := usage.SafeCell(name)
		valid := strings.ToValidUTF8(name, "\ufffd")
		require.Equal(t, strings.ReplaceAll(valid, "'", ""), strings.ReplaceAll(cell, "'", ""), "nothing but apostrophes was added")

		// Whoever reads commas or semicolons, and whatever of the blank it
		// drops, no cell of the row is a formula.
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.UseCRLF = true
		require.NoError(t, w.Write([]string{"key:web", cell, "end"}))
		w.Flush()
		back, err := csv.NewReader(bytes.NewReader(b.Bytes())).ReadAll()
		require.NoError(t, err)
		require.Len(t, back, 1)
		require.Len(t, back[0], 3)
		for _, read := range [][]string{back[0], strings.FieldsFunc(b.String(), func(r rune) bool { return strings.ContainsRune(";\t\r\n", r) })} {
			for _, c := range read {
				c = strings.TrimLeft(c, " \t\r\n\u00a0\ufeff\"")
				require.False(t, c != "" && strings.Contains("=+-@", c[:1]), "%q of %q", c, b.String())
			}
		}
	})
}

// sample is two keys over the night in which Berlin's clocks are set back.
func sample() (*sliceStore, usage.Query) {
	s := &sliceStore{}
	s.spend(web, "2026-10-24T22:00:00Z", 1, 1)
	s.spend(web, "2026-10-25T22:45:00Z", 2_050_000, 3)
	s.refuse(web, "2026-10-25T10:00:00Z", quota.ReasonLimit, 4)
	s.refuse(web, "2026-10-25T10:00:00Z", "maintenance", 2)
	s.refuse(web, "2026-10-25T10:00:00Z", "<odd>,\"reason\"", 1)
	s.spend(job, "2026-10-26T00:00:00Z", quota.MaxCredits, 9)
	s.rows = append(s.rows, usage.Row{Subject: job, Day: true, Start: micros("2026-10-25T23:00:00Z"), Requests: 1})
	q := query("2026-10-24T22:00:00Z", "2026-10-26T11:00:00Z", usage.Day, "Europe/Berlin", web, job)
	q.GroupBySubject = true
	return s, q
}

func names(s quota.Subject) string {
	return map[quota.Subject]string{web: `=HYPERLINK("http://x"),"web"`, job: "Nightly & <job>"}[s]
}

func TestExportsAreWhatTheGoldenFilesSay(t *testing.T) {
	s, q := sample()
	e := usage.Export{Label: names, Reasons: []quota.Reason{"maintenance"}}
	for name, write := range map[string]func(io.Writer) error{
		"days.csv":   func(w io.Writer) error { return usage.WriteCSV(w, usage.Each(t.Context(), s, q), e) },
		"days.jsonl": func(w io.Writer) error { return usage.WriteJSONL(w, usage.Each(t.Context(), s, q), e) },
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			require.NoError(t, write(&got))
			want, err := os.ReadFile(filepath.Join("testdata", name))
			require.NoError(t, err)
			text := got.String()
			if strings.HasSuffix(name, ".csv") { // RFC 4180 ends lines in CRLF; the file here does not
				assert.Equal(t, strings.Count(text, "\n"), strings.Count(text, "\r\n"))
				text = strings.ReplaceAll(text, "\r\n", "\n")
			}
			assert.Equal(t, string(want), text)
		})
	}
}

func TestCSVReadsBackAndItsColumnsAddUp(t *testing.T) {
	s, q := sample()
	var b bytes.Buffer
	require.NoError(t, usage.WriteCSV(&b, usage.Each(t.Context(), s, q), usage.Export{Label: names}))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+2*2)
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	first := rows[1]
	assert.Equal(t, "key:web", first[at["subject"]])
	assert.Equal(t, `'=HYPERLINK("http://x"),"web"`, first[at["name"]])
	assert.Equal(t, "2.050001", first[at["credits"]])
	assert.Equal(t, "7", first[at["refused"]])
	assert.Equal(t, "4", first[at["refused_limit"]])
	assert.Equal(t, "3", first[at["refused_other"]])
	assert.Equal(t, "9223372036854.775807", rows[4][at["credits"]])
	assert.Equal(t, "true", rows[4][at["partial"]])
	assert.Equal(t, "true", rows[4][at["coarse"]])
}

func TestJSONLinesReadBack(t *testing.T) {
	s, q := sample()
	var b bytes.Buffer
	require.NoError(t, usage.WriteJSONL(&b, usage.Each(t.Context(), s, q), usage.Export{Label: func(quota.Subject) string { return "\xff\u2028=1" }}))
	want := read(t, s, q)
	dec := json.NewDecoder(&b)
	for _, one := range want {
		for _, p := range one.Points {
			var got struct {
				Subject quota.Subject `json:"subject"`
				Name    string        `json:"name"`
				usage.Point
			}
			dec.DisallowUnknownFields()
			require.NoError(t, dec.Decode(&got))
			assert.Equal(t, one.Subject, got.Subject)
			assert.Equal(t, "\ufffd\u2028=1", got.Name)
			assert.True(t, p.Start.Equal(got.Start) && p.End.Equal(got.End))
			assert.Equal(t, p.Counts, got.Counts)
			assert.Equal(t, []bool{p.Partial, p.Coarse}, []bool{got.Partial, got.Coarse})
		}
	}
	assert.False(t, dec.More())
	var r usage.Refusals
	assert.ErrorIs(t, json.Unmarshal([]byte(`{"limit":1.5}`), &r), quota.ErrInvalid)
	assert.Nil(t, r)
}

// full is a disk with room for so many bytes.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestExportsEndAtTheFirstError(t *testing.T) {
	s, q := sample()
	gone := errors.New("gone")
	var failing iter.Seq2[usage.Series, error] = func(yield func(usage.Series, error) bool) {
		out := read(t, s, q)
		if yield(out[0], nil) {
			yield(usage.Series{}, gone)
		}
	}
	for name, write := range map[string]func(io.Writer, iter.Seq2[usage.Series, error], usage.Export) error{
		"CSV": usage.WriteCSV, "JSON lines": usage.WriteJSONL,
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.ErrorIs(t, write(&b, failing, usage.Export{}), gone)
			assert.Contains(t, b.String(), "key:web", "what came before it was written")

			s.calls = nil
			require.ErrorIs(t, write(&full{}, usage.Each(t.Context(), s, q), usage.Export{}), errFull)
			assert.Len(t, s.calls, 1, "and nothing more was read")

			for why, reasons := range map[string][]quota.Reason{
				"formula": {"=1"}, "empty": {""}, "upper case": {"Rate"}, "long": {quota.Reason(strings.Repeat("a", 33))},
				"the library's": {quota.ReasonLimit}, "twice": {"a", "a"}, "other": {"other"}, "many": make([]quota.Reason, 101),
			} {
				b.Reset()
				assert.ErrorIs(t, write(&b, usage.Each(t.Context(), s, q), usage.Export{Reasons: reasons}), quota.ErrInvalid, why)
				assert.Zero(t, b.Len(), why)
			}
		})
	}
}

func TestASumHasNoSubjectAndMayHaveALabel(t *testing.T) {
	s, q := sample()
	q.GroupBySubject, q.Subjects = false, []quota.Subject{web, "key:never"}
	var asked []quota.Subject
	label := func(s quota.Subject) string { asked = append(asked, s); return "@all" }
	var b bytes.Buffer
	require.NoError(t, usage.WriteCSV(&b, usage.Each(t.Context(), s, q), usage.Export{Label: label}))
	assert.Equal(t, []quota.Subject{""}, asked)
	assert.Contains(t, b.String(), "\r\n,'@all,2026-10-25T00:00:00+02:00,2026-10-26T00:00:00+01:00,2.050001,4,7,")
}
