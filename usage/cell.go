package usage

import (
	"strings"
	"unicode"
)

// SafeCell is text as a cell of a CSV file that a spreadsheet shows and does not
// run (CWE-1236; OWASP, "CSV Injection"). An apostrophe goes in front of text
// that begins with =, +, -, @, their full-width forms, a tab or a line break,
// also behind spaces, quotes and what is invisible. Where a reader takes
// semicolons for commas, as spreadsheets in much of Europe do, the text behind
// one begins a cell, and behind a tab or a line break too: the same is done
// there. Invalid UTF-8 becomes U+FFFD. All other text is returned as it is; the
// quoting of CSV is left to the writer.
func SafeCell(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	var b strings.Builder
	done := 0 // bytes of text already in b
	mark := func(at int) {
		b.WriteString(text[done:at])
		b.WriteByte('\'')
		done = at
	}
	for start := 0; start < len(text); {
		end := len(text)
		if i := strings.IndexAny(text[start:], cellEnds); i >= 0 {
			end = start + i + 1
		}
		if runs(text[start:end]) || start == 0 && strings.IndexByte("\t\r\n", text[0]) >= 0 {
			mark(start)
		}
		start = end
	}
	if done == 0 && b.Len() == 0 {
		return text
	}
	b.WriteString(text[done:])
	return b.String()
}

// cellEnds are what readers take for the end of a cell. The comma is none: the
// writer quotes it.
const cellEnds = ";\t\r\n"

// runs tells whether the first thing to be seen of a cell makes it a formula.
func runs(cell string) bool {
	for _, r := range cell {
		switch {
		case strings.ContainsRune("=+-@＝＋－＠", r):
			return true
		case r == '"', unicode.IsSpace(r), !unicode.IsGraphic(r), unicode.IsMark(r):
		default:
			return false
		}
	}
	return false
}
