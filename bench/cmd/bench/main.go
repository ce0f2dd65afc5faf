// Command bench runs the floors, the peers and keypurse side by side and
// writes medians, spreads and ratios. Run it from the bench directory:
//
//	go run ./cmd/bench                    # every section but the longest, into RESULTS.md
//	go run ./cmd/bench -section postgres  # one anew; the others stay as they are
//	go run ./cmd/bench -full              # the longest, too
//	go run ./cmd/bench -quick             # a smoke test, to the standard output
//	go run ./cmd/bench -size              # what rows and bytes things cost on Postgres
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keypurse/keypurse/bench"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 2 && os.Args[1] == bench.ProcessArg {
		err = bench.Process(ctx, os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds            int
	d, patience       time.Duration
	match, out        string
	section           string
	list, quick, full bool
	size              bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rounds, "rounds", 7, "rounds of every case")
	fs.DurationVar(&o.d, "d", 500*time.Millisecond, "duration of one round of one case")
	fs.DurationVar(&o.patience, "patience", 5*time.Minute, "time the run may spend on waiting for a quiet machine and on repeating disturbed rounds")
	fs.StringVar(&o.section, "section", "", "run only these `sections`, with commas between them")
	fs.StringVar(&o.match, "run", "", "run only the cases whose section/work/who matches this `regexp`, to the standard output")
	fs.StringVar(&o.out, "out", "RESULTS.md", "`file` whose sections are replaced, - for the standard output")
	fs.BoolVar(&o.list, "list", false, "list the cases and stop")
	fs.BoolVar(&o.full, "full", false, "run the longest sections, too")
	fs.BoolVar(&o.quick, "quick", false, "a smoke test to the standard output: one short round, small sizes, no installing; its figures mean nothing")
	fs.BoolVar(&o.size, "size", false, "print what rows and bytes things cost on Postgres, and stop")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.rounds < 1 || o.d <= 0 {
		return o, errors.New("-rounds and -d must be above 0")
	}
	if o.quick {
		o.rounds, o.d, o.patience = 1, 20*time.Millisecond, 0
	}
	if o.quick || o.match != "" { // parts of a section are no results
		o.out = "-"
	}
	return o, nil
}

// sections are those that the flags ask for.
func (o *options) sections() (out []harness.Section, err error) {
	var asked []string
	if o.section != "" {
		asked = strings.Split(o.section, ",")
	}
	var names []string
	for _, s := range bench.Sections() {
		names = append(names, s.Name)
		if slices.Contains(asked, s.Name) || asked == nil && (o.full || !s.Full) {
			out = append(out, s)
		}
	}
	for _, a := range asked {
		if !slices.Contains(names, a) {
			return nil, fmt.Errorf("-section %q: there is none of this name; there are %s", a, strings.Join(names, ", "))
		}
	}
	return out, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.size {
		return bench.Size(ctx, stdout, o.quick)
	}
	only, err := regexp.Compile(o.match)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	sections, err := o.sections()
	if err != nil {
		return err
	}
	env := harness.Env{Quick: o.quick}
	if o.list {
		for _, s := range sections {
			for _, c := range s.Cases(env) {
				if n := harness.Name(s.Name, c.Work, c.Who); only.MatchString(n) {
					fmt.Fprintln(stdout, n)
				}
			}
		}
		return nil
	}
	known, err := o.known()
	if err != nil {
		return err
	}
	// Beside the results and not where temporary files go: that is often a
	// file system in memory, where nothing waits for a disk.
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if env.Dir, err = os.MkdirTemp(wd, ".tmp-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(env.Dir)) }()

	rs, err := harness.Run(ctx, sections, env, harness.Options{
		Rounds: o.rounds, Duration: o.d, Patience: o.patience, Match: only, Log: stderr,
		// What was measured is kept, also where a later section does not end.
		Done: func(section string, rs []*harness.Result, took time.Duration) error {
			if len(rs) == 0 {
				return nil
			}
			b := bench.Report(section, bench.Conditions{
				Date: time.Now().Add(-took), Command: commandLine(args), Rounds: o.rounds, Duration: o.d, Took: took, Quick: o.quick,
			}, rs)
			known = bench.Merge(known, b)
			if o.out == "-" {
				return nil
			}
			return os.WriteFile(o.out, []byte(bench.Render(known)), 0o644)
		},
	})
	if o.out == "-" {
		_, e := io.WriteString(stdout, bench.Render(known))
		err = errors.Join(err, e)
	}
	for _, r := range rs {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.Name(), r.Err))
		}
	}
	return err
}

// known is what the file has already.
func (o *options) known() ([]bench.Block, error) {
	if o.out == "-" {
		return nil, nil
	}
	text, err := os.ReadFile(o.out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	blocks, err := bench.Blocks(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.out, err)
	}
	return blocks, nil
}

// commandLine is what to type to repeat the run.
func commandLine(args []string) string {
	line := "go run ./cmd/bench"
	for _, a := range args {
		if strings.ContainsAny(a, " |()*?$") {
			a = "'" + a + "'"
		}
		line += " " + a
	}
	return line
}
