//go:build unix

// Cluster shows several processes on one Postgres and one purse: workers, which
// are small HTTP services behind keypurse's middleware, and a load on all of them
// that one organization's limit pays for. While it runs, workers are killed
// (SIGKILL) and started anew. In the end it prints what was admitted, refused,
// charged and held, from the callers' side and from the store's, and the two agree
// to the credit, or the program ends with 1.
//
//	go run ./examples/cluster [-n 4] [-dsn DSN] [-for 10s] [-kill 1s] [-callers 32] [-limit 10000] [-leases]
//
// Without -dsn it starts a Postgres of its own, which is gone when it ends. With
// it, everything is in a schema of its own, which is dropped. Ctrl-C ends the load
// early; the sums are printed all the same. A second one ends at once.
//
// With -leases the workers spend from blocks of credits in memory, and calls carry
// no id: what was answered by a worker that is killed, and not settled yet, is then
// not in what is used, but in what stays held as stranded, never to be granted
// again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/keypurse/keypurse/quota"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == roleWorker:
		err = worker(os.Stdin, os.Stdout)
	case len(os.Args) == 2 && os.Args[1] == roleJanitor:
		err = janitor(os.Stdin)
	default:
		err = lead(os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func lead(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends this process: what it started ends with it
	return run(ctx, args, os.Stdout)
}

// options are the flags.
type options struct {
	workers, callers int
	dsn              string
	time, kill       time.Duration
	limit            quota.Credits
	leases           bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.IntVar(&o.workers, "n", 4, "worker processes, 1 to 64")
	flags.StringVar(&o.dsn, "dsn", "", "connection string of a Postgres to use, in a schema of its own (default: one that is started for the run)")
	flags.DurationVar(&o.time, "for", 10*time.Second, "how long the load goes on")
	flags.DurationVar(&o.kill, "kill", time.Second, "how often a worker is killed and another started; 0: never")
	flags.IntVar(&o.callers, "callers", 32, "callers at the same time, 1 to 1000")
	flags.TextVar(&o.limit, "limit", 10_000*quota.Credit, "what the organization may spend, in credits")
	flags.BoolVar(&o.leases, "leases", false, "spend from blocks of credits in memory")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.workers < 1 || o.workers > 64:
		return o, fmt.Errorf("-n %d: give 1 to 64", o.workers)
	case o.callers < 1 || o.callers > 1000:
		return o, fmt.Errorf("-callers %d: give 1 to 1000", o.callers)
	case o.time <= 0 || o.kill < 0 || o.limit < 0:
		return o, errors.New("-for must be above 0, -kill and -limit not below")
	}
	return o, nil
}

// run is the whole of it: the database, the organization, the workers, the load,
// the sums. Whatever it started is gone when it returns.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	db, err := openDatabase(o.dsn, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	// What happens from here on is not cut off by a signal, but bounded.
	firm, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.time+5*time.Minute)
	defer cancel()
	acme, err := newOrg(firm, db, o.limit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, acme.close()) }()
	workers, err := startWorkers(firm, work{db.place, o.leases}, o.workers, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, workers.stop()) }()

	fmt.Fprintf(out, "%d callers for %v, on a limit of %s credits\n", o.callers, o.time, o.limit)
	during, end := context.WithTimeout(ctx, o.time)
	defer end()
	killed := make(chan error, 1)
	go func() { killed <- workers.killEvery(during, firm, o.kill) }()
	load := newLoad(workers, acme.tokens, o.callers, !o.leases)
	load.run(during, firm)
	if err := errors.Join(<-killed, load.failed()); err != nil {
		return err
	}
	before, err := acme.figures(firm)
	if err != nil {
		return err
	}
	load.settle(firm)
	if err := errors.Join(load.failed(), workers.stop()); err != nil { // a worker that ends gives back what it has not spent
		return err
	}
	after, err := acme.settled(firm)
	if err != nil {
		return err
	}
	s := sums{answers: load.answers(), kills: workers.kills(), heldAtEnd: before.held, figures: after, limit: o.limit}
	s.print(out)
	return errors.Join(workers.failed(), s.check())
}
