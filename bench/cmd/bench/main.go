// Command bench runs the floors, the peers and keypurse side by side and
// writes medians, spreads and ratios. Run it from the bench directory:
//
//	go run ./cmd/bench          # everything, into RESULTS.md
//	go run ./cmd/bench -quick   # a smoke test, to the standard output
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/keypurse/keypurse/bench"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	rounds := fs.Int("rounds", 7, "rounds of every case")
	d := fs.Duration("d", 500*time.Millisecond, "duration of one round of one case")
	patience := fs.Duration("patience", 5*time.Minute, "time the run may spend on waiting for a quiet machine and on repeating disturbed rounds")
	match := fs.String("run", "", "run only the cases whose section/work/who matches this `regexp`")
	out := fs.String("out", "", "`file` to write, - for the standard output (default RESULTS.md; - with -run or -quick)")
	list := fs.Bool("list", false, "list the cases and stop")
	quick := fs.Bool("quick", false, "a smoke test: one short round, small sizes, no installing; its figures mean nothing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *rounds < 1 || *d <= 0 {
		return errors.New("-rounds and -d must be above 0")
	}
	only, err := regexp.Compile(*match)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *quick {
		*rounds, *d, *patience = 1, 20*time.Millisecond, 0
	}
	if *out == "" {
		*out = "RESULTS.md"
		if *quick || *match != "" {
			*out = "-"
		}
	}
	env := harness.Env{Quick: *quick}
	sections := bench.Sections()
	if *list {
		for _, s := range sections {
			for _, c := range s.Cases(env) {
				if n := harness.Name(s.Name, c.Work, c.Who); only.MatchString(n) {
					fmt.Fprintln(stdout, n)
				}
			}
		}
		return nil
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

	start := time.Now()
	rs, err := harness.Run(ctx, sections, env, harness.Options{
		Rounds: *rounds, Duration: *d, Patience: *patience, Match: only, Log: stderr,
	})
	if err != nil {
		return err
	}
	var head strings.Builder
	if *quick {
		head.WriteString("**A smoke test: the sizes are cut down and the figures mean nothing.**\n\n")
	}
	fmt.Fprintf(&head, "| what | value |\n| --- | --- |\n%s", bench.Machine())
	fmt.Fprintf(&head, "| date | %s |\n", start.UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(&head, "| command | `%s` in bench/ |\n", commandLine(args))
	fmt.Fprintf(&head, "| rounds | %d of %v for each case, interleaved within a section; %s in all |\n", *rounds, *d, time.Since(start).Round(time.Second))
	var text strings.Builder
	if err := bench.Report(&text, head.String(), rs); err != nil {
		return err
	}
	if *out == "-" {
		_, err = io.WriteString(stdout, text.String())
	} else {
		err = os.WriteFile(*out, []byte(text.String()), 0o644)
	}
	for _, r := range rs {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.Name(), r.Err))
		}
	}
	return err
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
