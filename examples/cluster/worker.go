//go:build unix

package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

const (
	prefix = "acme"
	// holdTime is how long what a killed worker had reserved stays on hold.
	holdTime = 2 * time.Second
	// endTime bounds how long a worker takes to end.
	endTime = 5 * time.Second
	// connections bounds a worker's pool: charges use one at a time, whatever
	// their number.
	connections = 4
)

// work is what a worker needs to know.
type work struct {
	place
	Leases bool
}

// worker is one process of the service: it listens on a port of its own, prints
// the address, and serves until its input ends.
func worker(in io.Reader, out io.Writer) (err error) {
	var p work
	r := bufio.NewReader(in)
	if err := readJob(r, &p, nil); err != nil {
		return err
	}
	db, err := sql.Open("postgres", p.DSN)
	if err != nil {
		return errors.New("the connection string cannot be read")
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	// The first process has made the tables.
	st, err := pgstore.New(db, pgstore.Config{Schema: p.Schema})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	svc, err := saccount.New(st, saccount.Config{Prefix: prefix, Leases: p.Leases})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	h, err := service(svc)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	fmt.Fprintln(out, ln.Addr())
	gone := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, r); close(gone) }()
	select {
	case err := <-served:
		return err
	case <-gone:
	}
	// Whoever asked may be gone, and the database with it.
	time.AfterFunc(endTime, func() { os.Exit(1) })
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	err = srv.Shutdown(ctx)
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// service is two routes. What a request asks for is in its query: how many
// credits it costs, and for a job the most that it may cost, which is reserved
// before and settled when the cost is known.
func service(svc *saccount.Service) (http.Handler, error) {
	base := middleware.Config{IdempotencyHeader: "Idempotency-Key", Replays: true, HoldTTL: holdTime}
	known, unknown := base, base
	known.Cost = middleware.Computed(func(r *http.Request) (quota.Credits, error) { return credits(r, "cost") })
	unknown.Cost = middleware.UpTo(func(r *http.Request) (quota.Credits, error) { return credits(r, "most") })
	charge, err := middleware.New(svc, known)
	if err != nil {
		return nil, err
	}
	reserve, err := middleware.New(svc, unknown)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /call", charge(http.HandlerFunc(answer)))
	mux.Handle("POST /job", reserve(http.HandlerFunc(job)))
	return mux, nil
}

func credits(r *http.Request, name string) (quota.Credits, error) {
	c, err := quota.ParseCredits(r.URL.Query().Get(name))
	if err != nil {
		return 0, &middleware.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s: %v", name, err)}
	}
	return c, nil
}

// job settles what it cost before it answers. A request that was paid for before
// is answered and not worked for again.
func job(w http.ResponseWriter, r *http.Request) {
	if !middleware.Replayed(r.Context()) {
		cost, err := credits(r, "cost")
		if err == nil {
			_, err = middleware.Settle(r.Context(), cost)
		}
		if err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
	}
	answer(w, r)
}

// reply is what an admitted request is answered.
type reply struct {
	Replayed bool `json:"replayed"` // it was charged before
}

func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply{middleware.Replayed(r.Context())}) // the caller may have gone
}
