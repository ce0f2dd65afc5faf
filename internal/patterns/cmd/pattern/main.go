// Command pattern judges the rule of spending out of pattern by recorded series
// and writes what came of it into alert/PATTERN.md: see there.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keypurse/keypurse/internal/patterns"
)

const file = "alert/PATTERN.md"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pattern:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("name the directory of a copy of https://github.com/numenta/NAB: make pattern DIR=…")
	}
	all, sum, err := patterns.Benchmark(os.DirFS(args[0]))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, _, found := strings.Cut(string(text), patterns.Mark)
	if !found {
		return fmt.Errorf("%s has no line %q, behind which the tables go", file, patterns.Mark)
	}
	tables := patterns.Tables(all, sum)
	fmt.Print(tables)
	return os.WriteFile(file, []byte(head+patterns.Mark+tables), 0o644)
}
