package bench

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// ProcessArg is what this program is started with to be one of several processes
// of a case: see Process.
const ProcessArg = "process"

// job is what a process of a case does, a line of JSON on its input. After it,
// each line {"ms":500} asks for a round and is answered with a harness.Part.
type job struct {
	Kind    string
	DSN     string
	Callers int
	Row     int64    // jobRow
	Tokens  []string // jobCharge
	Leases  bool     // jobCharge
	Procs   int      // GOMAXPROCS; 0 leaves it alone
}

// The kinds of a job.
const (
	jobRow    = "row"    // one row updated a charge
	jobCharge = "charge" // keypurse
)

type roundAsked struct {
	MS int64 `json:"ms"`
}

// Process runs a job until its input ends.
func Process(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	var j job
	if err := questions.Decode(&j); err != nil {
		return err
	}
	if j.Procs > 0 {
		runtime.GOMAXPROCS(j.Procs)
	}
	op, stop, err := j.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := answers.Encode(map[string]bool{"ready": true}); err != nil {
		return err
	}
	next := make([]int, j.Callers)
	for {
		var q roundAsked
		if err := questions.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		part, err := harness.MeasurePart(ctx, op, next, time.Duration(q.MS)*time.Millisecond)
		if err != nil {
			return err
		}
		if err := answers.Encode(part); err != nil {
			return err
		}
	}
}

func (j *job) start(ctx context.Context) (harness.Op, func() error, error) {
	switch j.Kind {
	case jobRow:
		db, err := sql.Open("postgres", j.DSN)
		if err != nil {
			return nil, nil, err
		}
		db.SetMaxOpenConns(j.Callers)
		db.SetMaxIdleConns(j.Callers)
		st, err := db.PrepareContext(ctx, rowStatement)
		if err != nil {
			return nil, nil, errors.Join(err, db.Close())
		}
		return func(_, _ int) error {
			_, err := st.ExecContext(ctx, j.Row, 1)
			return err
		}, db.Close, nil
	case jobCharge:
		cfg := config()
		cfg.Leases = j.Leases
		s, err := openOnPostgres(ctx, j.DSN, j.Tokens, cfg)
		if err != nil {
			return nil, nil, err
		}
		if err := s.knowTogether(ctx); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		return func(w, i int) error { return s.charge(ctx, fixture.Pick(w+os.Getpid()*1009, i, len(s.tokens))) }, s.Close, nil
	}
	return nil, nil, fmt.Errorf("no job is called %q", j.Kind)
}

// openOnPostgres is a Service on a database whose tree is there.
func openOnPostgres(ctx context.Context, dsn string, tokens []string, cfg saccount.Config) (*service, error) {
	st, err := pgstore.Open(ctx, dsn, pgstore.Config{})
	if err != nil {
		return nil, err
	}
	svc, err := saccount.New(st, cfg)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &service{Service: svc, store: st, tokens: tokens}, nil
}

// inProcesses lets so many processes do a job side by side; a round is of all of
// them. stop releases what they work on.
func inProcesses(ctx context.Context, n int, j job, pids []int, stop func() error) (_ *harness.Running, err error) {
	var all []*process
	end := func() (err error) {
		for _, p := range all {
			err = errors.Join(err, p.close())
		}
		return errors.Join(err, stop())
	}
	self, err := os.Executable()
	if err != nil {
		return nil, errors.Join(err, end())
	}
	for range n {
		p, err := startProcess(exec.CommandContext(ctx, self, ProcessArg), j)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		all = append(all, p)
		pids = append(pids, p.cmd.Process.Pid)
	}
	return &harness.Running{
		PIDs: pids, Close: end,
		Round: func(_ context.Context, d time.Duration) (harness.Round, error) {
			parts, errs := make([]harness.Part, n), make([]error, n)
			var wg sync.WaitGroup
			for i, p := range all {
				wg.Go(func() { errs[i] = p.ask(roundAsked{d.Milliseconds()}, &parts[i]) })
			}
			wg.Wait()
			return harness.RoundOf(parts), errors.Join(errs...)
		},
	}, nil
}
