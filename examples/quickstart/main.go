// Quickstart is a small paid service: it counts words, for a hundredth of a
// credit each, and charges the service account whose key the request carries.
//
//	go run ./examples/quickstart [-addr 127.0.0.1:8080] [-db FILE] [-new-key NAME] [-demo] [-webhook URL]
//
// The dashboard is at /dashboard/, for this machine alone; -demo gives it a month
// of history to show.
//
// Everything is kept in one bbolt file. The first start makes an organization,
// a service account and a key, and prints the key; it is never shown again. It
// prints its alerts as they come, and posts them to a webhook, signed by Standard
// Webhooks, where one is named.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
	_ "time/tzdata" // limits reset in the zones of customers, wherever this runs

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/boltstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	file := flags.String("db", "", "bbolt file (default: keypurse/quickstart.db in the user's cache directory)")
	newKey := flags.String("new-key", "", "make another key with this name, and print it")
	history := flags.Bool("demo", false, "add service accounts with a month of history, for the dashboard to show")
	webhook := flags.String("webhook", "", "URL to post alerts to, on this machine too; its signing secret is printed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *file == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w; name a file with -db", err)
		}
		*file = filepath.Join(dir, "keypurse", "quickstart.db")
		if err := os.MkdirAll(filepath.Dir(*file), 0o700); err != nil {
			return err
		}
	}
	ln, err := net.Listen("tcp", *addr) // before anything is made, so that a second start changes nothing
	if err != nil {
		return fmt.Errorf("%w; choose another address with -addr", err)
	}
	defer func() { _ = ln.Close() }() // the server has closed it already, where it ran
	st, err := boltstore.Open(*file, boltstore.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if *history {
		if err := demo(ctx, st, time.Now()); err != nil {
			return err
		}
	}
	secret, err := hostSecret(*file + ".secret")
	if err != nil {
		return err
	}
	svc, err := saccount.New(st, saccount.Config{Prefix: "acme", Secrets: []saccount.Secret{secret}, Alerts: alerts(out)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	if err := setUp(ctx, svc, out, "http://"+ln.Addr().String(), *newKey); err != nil {
		return err
	}
	if *webhook != "" {
		if err := setWebhook(ctx, svc, out, *webhook); err != nil {
			return err
		}
	}
	watching, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- svc.Watch(watching) }()
	defer func() { stop(); err = errors.Join(err, <-watched) }()
	mux, err := handler(svc)
	if err != nil {
		return err
	}
	if loopback(ln.Addr().String()) {
		h, err := console(svc)
		if err != nil {
			return err
		}
		mux.Handle(dashboardPath, h)
		fmt.Fprintf(out, "\nThe dashboard, for this machine alone: http://%s%s\n", ln.Addr(), dashboardPath)
	} else {
		fmt.Fprintf(out, "\nThere is no dashboard on %s: without a login it is for addresses of this machine alone.\n", ln.Addr())
	}
	fmt.Fprintf(out, "\nServing on http://%s, keeping everything in %s. Stop with Ctrl-C.\n", ln.Addr(), *file)
	return serve(ctx, ln, mux)
}

// serve answers requests until ctx ends, and then those under way.
func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := srv.Shutdown(done)
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
