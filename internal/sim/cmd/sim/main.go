// Command sim runs the seeded simulation: see package sim.
//
//	go run ./internal/sim/cmd/sim -seed 1 -steps 1000000 -store memory
//	go run ./internal/sim/cmd/sim -seed 1 -leases 60s -store all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
	_ "time/tzdata" // zones, where the machine has none

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/internal/sim"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() (err error) {
	var cfg sim.Config
	flag.Uint64Var(&cfg.Seed, "seed", 1, "chooses the history")
	flag.IntVar(&cfg.Steps, "steps", 100_000, "operations in all")
	flag.IntVar(&cfg.World, "world", 50_000, "operations after which a new, empty store begins")
	flag.IntVar(&cfg.Every, "every", 1000, "operations between two checks of everything")
	flag.StringVar(&cfg.Store, "store", "memory", "memory, bolt, postgres, or all to compare their replies")
	flag.StringVar(&cfg.DSN, "dsn", "", "connection string for postgres; empty: a server of its own")
	shrink := flag.Duration("shrink", time.Minute, "how long to look, after a violation, for fewer operations that show one")
	counts := flag.Bool("counts", false, "print how often each operation was answered what")
	quiet := flag.Bool("quiet", false, "print nothing on the way")
	leases := flag.Duration("leases", 0, "simulate processes that lease, for so long, instead: see sim.Leases")
	skew := flag.Duration("skew", 10*time.Second, "with -leases: how far clocks differ, either way")
	flag.Parse()
	if flag.NArg() > 0 || cfg.Steps < 1 || cfg.World < 1 || cfg.Every < 1 {
		return errors.New("sim: -steps, -world and -every are at least 1, and there are no arguments")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "keypurse-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg.Dir = dir
	stores := []string{cfg.Store}
	if cfg.Store == "all" {
		stores = []string{"memory", "bolt", "postgres"}
	}
	if slices.Contains(stores, "postgres") && cfg.DSN == "" {
		server, err := pgtest.Start(pgtest.Config{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		cfg.DSN = server.DSN()
	}
	if *leases > 0 {
		for _, name := range stores {
			r, err := sim.Leases(ctx, sim.LeaseConfig{Seed: cfg.Seed, For: *leases, Skew: *skew, Crashes: true, Store: name, Dir: cfg.Dir, DSN: cfg.DSN})
			if err != nil {
				return err
			}
			fmt.Printf("seed %d, leases for %v on %s: no violation; %+v\n", cfg.Seed, *leases, name, r)
		}
		return nil
	}
	var replies []string
	for _, cfg.Store = range stores {
		if !*quiet {
			cfg.Progress = func(step int) { fmt.Fprintf(os.Stderr, "\r%s %d/%d", cfg.Store, step, cfg.Steps) }
		}
		begin := time.Now()
		r, err := sim.Run(ctx, cfg)
		if !*quiet {
			fmt.Fprintln(os.Stderr)
		}
		var v *sim.Violation
		if errors.As(err, &v) && *shrink > 0 {
			fmt.Fprintf(os.Stderr, "%v\n\nlooking for fewer operations...\n", v)
			if s, skipped := sim.Shrink(ctx, cfg, v, *shrink); s != nil {
				return fmt.Errorf("%d operations of it are enough:\n%w", s.Step+1-skipped, s)
			}
		}
		if err != nil {
			return err
		}
		fmt.Printf("seed %d, %d steps on %s in %v: no violation; replies %s\n", cfg.Seed, r.Steps, cfg.Store, time.Since(begin).Round(time.Millisecond), r.Replies)
		if *counts {
			var names []string
			for n := range r.Counts {
				names = append(names, n)
			}
			slices.Sort(names)
			for _, n := range names {
				fmt.Printf("%9d %s\n", r.Counts[n], n)
			}
		}
		replies = append(replies, r.Replies)
	}
	if len(slices.Compact(replies)) > 1 {
		return fmt.Errorf("sim: the stores do not give the same replies: find the first difference with fewer -steps")
	}
	return nil
}
