//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/keypurse/keypurse/internal/pgtest"
)

// The roles in which this program starts itself anew. What they need to know
// comes as a line of JSON on their standard input, since a connection string may
// hold a password; its end is their sign to end, so that none of them outlives the
// first process.
const (
	roleWorker  = "worker"
	roleJanitor = "janitor"
)

// place is where the tables are.
type place struct{ DSN, Schema string }

// database is a Postgres of the run's own, or a schema of its own in another's.
type database struct {
	place
	server *pgtest.Server
	drop   *child
}

func openDatabase(dsn string, out io.Writer) (*database, error) {
	if dsn == "" {
		s, err := pgtest.Start(pgtest.Config{})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "Postgres: one for this run, %s\n", s.DSN())
		return &database{place: place{s.DSN(), "keypurse"}, server: s}, nil
	}
	d := &database{place: place{dsn, "keypurse_cluster_" + strings.ToLower(rand.Text()[:10])}}
	var err error
	if d.drop, err = startChild(roleJanitor, d.place); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "Postgres: the one given, schema %s\n", d.Schema)
	return d, nil
}

func (d *database) close() error {
	if d.server != nil {
		return d.server.Stop()
	}
	return d.drop.end()
}

// janitor drops the schema when the run is over, however it ended.
func janitor(in io.Reader) error {
	var p place
	if err := readJob(bufio.NewReader(in), &p, io.Discard); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := sql.Open("postgres", p.DSN)
	if err != nil {
		return errors.New("the connection string cannot be read")
	}
	// Workers may still be at work in it: they end by the same sign. So a lock is
	// not waited for long, and a deadlock is no reason to give up.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err = db.ExecContext(ctx, fmt.Sprintf(`SET lock_timeout = '2s'; DROP SCHEMA IF EXISTS %q CASCADE`, p.Schema))
		if err == nil {
			return db.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("drop schema %s: %w", p.Schema, err), db.Close())
		}
	}
}

// readJob reads the line of JSON and copies what comes after it until the end.
func readJob(in *bufio.Reader, job any, rest io.Writer) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	if err := json.Unmarshal(line, job); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	if rest == nil {
		return nil
	}
	_, err = io.Copy(rest, in)
	return err
}

// child is this program in another role.
type child struct {
	cmd  *exec.Cmd
	life io.WriteCloser // its end is the child's sign
	out  io.ReadCloser
}

func startChild(role string, job any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, role)}
	c.cmd.Stderr = os.Stderr
	// A group of its own: a terminal's ^C is for the first process alone.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.life, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := c.life.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// end asks the child to end and waits for it.
func (c *child) end() error { return errors.Join(c.life.Close(), c.cmd.Wait()) }
