package bench

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

// Block is what RESULTS.md has of one section. It is replaced whole, when the
// section is measured anew, and kept as it is otherwise.
type Block struct {
	Section, Date string
	Met           string // how many of its lines reach what they must
	Text          string
}

// What separates blocks in a file.
const (
	blockBegin = "<!-- section "
	blockEnd   = "<!-- end of section -->\n"
)

func (b *Block) write(w *strings.Builder) {
	fmt.Fprintf(w, "\n%s%s | %s | %s -->\n\n## %s\n\n%s\n%s", blockBegin, b.Section, b.Date, b.Met, b.Section, b.Text, blockEnd)
}

// Blocks reads the blocks of a file, which may be empty.
func Blocks(file string) (out []Block, err error) {
	for rest := file; ; {
		_, after, found := strings.Cut(rest, "\n"+blockBegin)
		if !found {
			if len(out) == 0 && strings.TrimSpace(file) != "" {
				return nil, fmt.Errorf("no sections were found in it; move it away, and it is written anew")
			}
			return out, nil
		}
		first, body, ok := strings.Cut(after, "\n")
		text, next, closed := strings.Cut(body, "\n"+blockEnd)
		f := strings.Split(strings.TrimSuffix(first, " -->"), " | ")
		if !ok || !closed || len(f) != 3 {
			return nil, fmt.Errorf("the section that begins with %q is damaged", first)
		}
		text = strings.TrimPrefix(text, "\n## "+f[0]+"\n\n")
		out = append(out, Block{Section: f[0], Date: f[1], Met: f[2], Text: text})
		rest = "\n" + next
	}
}

// Merge puts a block in the place of what was known of its section.
func Merge(blocks []Block, b Block) []Block {
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(o Block) bool { return o.Section == b.Section })
	return append(blocks, b)
}

// Render is the file: what its tables mean, a table of the sections in their
// order, and the blocks. Sections that are not known any more are left out.
func Render(blocks []Block) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Results

Each section is of one run, whose conditions it names; ratios are taken between cases of one section and one run alone. "go
run ./cmd/bench" measures all, "-section NAME" one anew and leaves the others as they stand.

A ratio is taken in each round, between cases that ran one after the other in it; median and smallest..largest of the
undisturbed rounds, or of the least disturbed (*) where there were too few. Time is wall time a call, all callers together.
Quiet counts the rounds in which others used less than %.0f %% of the machine; the figures are theirs, or of the %d least
disturbed (*) where fewer were quiet. In "What must be reached" stands the worst figure of each line.

| section | measured | lines that reach it |
| --- | --- | --- |
`, 100*harness.Noisy, enough)
	var ordered []*Block
	for _, s := range Sections() {
		i := slices.IndexFunc(blocks, func(o Block) bool { return o.Section == s.Name })
		if i < 0 {
			how := ""
			if s.Full {
				how = "; `make bench-full` does"
			}
			fmt.Fprintf(&b, "| %s | not yet%s | |\n", s.Name, how)
			continue
		}
		ordered = append(ordered, &blocks[i])
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", s.Name, anchor(s.Name), blocks[i].Date, blocks[i].Met)
	}
	for _, o := range ordered {
		o.write(&b)
	}
	return b.String()
}

// anchor is what Markdown's renderers make of a heading.
func anchor(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(s), ",", ""), " ", "-")
}
