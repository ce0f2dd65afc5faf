package pgstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Errors of this package, to be matched with errors.Is.
var (
	// ErrSchema says that the tables are not those that this version knows:
	// older, newer, or none.
	ErrSchema = errors.New("the schema does not fit")
	// ErrUnsafe says that the server may lose what it acknowledged, or cannot
	// be written to.
	ErrUnsafe = errors.New("the server is not safe to charge on")
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}

// call does one thing with the server and returns when that is done or ctx is
// over, whatever the driver does: lib/pq waits for the answer of a server that
// has stopped. fn must touch nothing that is used after an early return; left
// is called when it has returned after all.
func call(ctx context.Context, left func(), fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return timely(ctx, err)
	case <-ctx.Done():
	}
	select {
	case err := <-done: // both: what is known counts
		return timely(ctx, err)
	default:
	}
	if left != nil {
		go func() { <-done; left() }()
	}
	return &leftError{ctx.Err()}
}

// leftError is that of a call that was left before its end.
type leftError struct{ err error }

func (e *leftError) Error() string { return e.err.Error() + " while the server was asked" }
func (e *leftError) Unwrap() error { return e.err }

// timely says of an error that came when time was over that it was: lib/pq
// reports a canceled statement instead.
func timely(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// state is the SQLSTATE of an error, of whatever driver.
func state(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// again reports whether an error is one that passes: the connection broke, the
// server restarts or is full, or another transaction was in the way.
func again(err error) bool {
	switch code := state(err); {
	case code == "40001", code == "40P01", code == "55P03", // serialization, deadlock, lock
		code == unknown,
		strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), // connection, shutdown
		code == "53300", code == "25006", // too many connections; read only: it was not promoted yet
		code == "25P03",                  // the transaction was idle for too long: this process stood still
		code == "26000", code == "42P05": // a prepared statement that another connection of a pool has
		return true
	case code != "":
		return false
	}
	var ne net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ENOENT) || errors.As(err, &ne) || broken(err)
}

// broken knows the errors of drivers that wrap nothing.
func broken(err error) bool {
	text := err.Error()
	for _, part := range []string{"conn closed", "unexpected EOF", "connection reset", "broken pipe", "bad connection", "failed to connect", "failed to write", "failed to receive", "closed the connection"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// unknown is what engines that speak as Postgres does say of a commit of which
// they do not know whether it was done; Postgres itself never does.
const unknown = "40003"

// sure reports whether an error says that the transaction it ended was undone.
func sure(err error) bool {
	code := state(err)
	return code != "" && code != unknown && !strings.HasPrefix(code, "08") && !strings.HasPrefix(code, "57P")
}

const (
	firstPause = 2 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// persist calls try until it succeeds, fails for good, or time is over. It
// waits longer from time to time, by chance, so that many do not come at once.
func (s *Store) persist(ctx context.Context, verb string, try func() error) error {
	pause := firstPause
	for {
		err := try()
		if err == nil || !again(err) {
			return err
		}
		s.cfg.Logger.Debug("pgstore: trying again", "verb", verb, "error", err)
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		pause = min(2*pause, lastPause)
	}
}

// each runs a query and gives every row to scan; what scan wrote must not be
// read where each fails. In a transaction, undo ends it where nobody waits any
// more.
func (s *Store) each(ctx context.Context, q querier, undo func(), text string, args []any, scan func(*sql.Rows) error) error {
	return call(ctx, undo, func() error { return s.rowsOf(ctx, q, text, args, scan) })
}

// whole is each for a statement that commits by itself. It is left when ctx is
// over and not canceled: a commit that waits for a standby would be done here
// and on no other server, and who asks again would be told that it is done.
func (s *Store) whole(ctx context.Context, text string, args []any, scan func(*sql.Rows) error) error {
	return s.unwatched(ctx, &s.afloat, text, args, scan)
}

// brief is each for a question that the server answers at once. It is left when
// ctx is over and not canceled: what watches a context is a goroutine each in
// database/sql and lib/pq, which take more time than the answer.
func (s *Store) brief(ctx context.Context, text string, args []any, scan func(*sql.Rows) error) error {
	return s.unwatched(ctx, &s.asking, text, args, scan)
}

// unwatched runs a statement whose end ctx does not bring about, unless there are
// maxAfloat of them, as counted by afloat.
func (s *Store) unwatched(ctx context.Context, afloat *atomic.Int64, text string, args []any, scan func(*sql.Rows) error) error {
	return call(ctx, nil, func() error {
		own := ctx
		if afloat.Add(1) <= maxAfloat {
			own = context.WithoutCancel(ctx)
		}
		defer afloat.Add(-1)
		return s.rowsOf(own, s.db.DB, text, args, scan)
	})
}

// maxAfloat bounds the statements of each kind that nobody waits for and nothing
// ends.
const maxAfloat = 8

func (s *Store) rowsOf(ctx context.Context, q querier, text string, args []any, scan func(*sql.Rows) error) error {
	rows, err := s.query(ctx, q, text, args)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return rows.Err()
}

// exec runs a statement and says how many rows it changed.
func (s *Store) exec(ctx context.Context, q querier, undo func(), text string, args ...any) (int64, error) {
	var n int64 // nobody reads it where the call was left
	err := call(ctx, undo, func() error {
		var res sql.Result
		stmt, err := s.stmt(ctx, q, text)
		if err != nil {
			return err
		}
		if stmt != nil {
			res, err = stmt.ExecContext(ctx, args...)
		} else {
			res, err = q.ExecContext(ctx, text, args...)
		}
		if err == nil {
			n, err = res.RowsAffected()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (s *Store) query(ctx context.Context, q querier, text string, args []any) (*sql.Rows, error) {
	stmt, err := s.stmt(ctx, q, text)
	if err != nil {
		return nil, err
	}
	if stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return q.QueryContext(ctx, text, args...)
}

// stmt is the prepared statement of a text: lib/pq needs two round trips for
// one that is not prepared.
func (s *Store) stmt(ctx context.Context, q querier, text string) (*sql.Stmt, error) {
	if s.cfg.Unprepared {
		return nil, nil
	}
	_, within := q.(*sql.Tx)
	v, ok := s.prepared.Load(text)
	if !ok && within {
		return nil, nil // to prepare it would take another connection, which there may not be
	}
	if !ok {
		made, err := s.db.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		var there bool
		if v, there = s.prepared.LoadOrStore(text, made); there {
			_ = made.Close() // another caller's is as good
		}
	}
	stmt := v.(*sql.Stmt)
	if tx, ok := q.(*sql.Tx); ok {
		return tx.StmtContext(ctx, stmt), nil
	}
	return stmt, nil
}

// tx is a transaction under READ COMMITTED, whatever the server's default is.
type tx struct {
	*sql.Tx
	s    *Store
	free context.CancelFunc // of the transaction's context, when it has ended
}

func (s *Store) tx(ctx context.Context, o *sql.TxOptions) (*tx, error) {
	t := &tx{s: s}
	// A context of its own: database/sql rolls back on the context's end while
	// a statement may still be running, and who ends the transaction must know.
	// Until it has begun, ctx ends it: nobody stays in the queue for a connection
	// beyond that.
	own, free := context.WithCancel(context.WithoutCancel(ctx))
	t.free = free
	begun := context.AfterFunc(ctx, free)
	err := call(ctx, func() { t.undo() }, func() (err error) {
		t.Tx, err = s.db.DB.BeginTx(own, o)
		if !begun() && err == nil { // it is ended by its context
			err = errors.Join(context.Cause(ctx), t.Rollback())
		}
		if err != nil {
			free()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

var readCommitted = &sql.TxOptions{Isolation: sql.LevelReadCommitted}

// undo ends the transaction, if it has not ended.
func (t *tx) undo() {
	if t.Tx != nil {
		_ = t.Rollback() // there is nothing else to do about it
	}
	t.free()
}

// end undoes the transaction after err, and does not outlast ctx.
func (t *tx) end(ctx context.Context, err error) {
	if left := (*leftError)(nil); errors.As(err, &left) {
		return // it ends with the call that was left
	}
	done := make(chan struct{})
	go func() {
		t.undo()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (t *tx) each(ctx context.Context, text string, args []any, scan func(*sql.Rows) error) error {
	return t.s.each(ctx, t.Tx, t.undo, text, args, scan)
}

func (t *tx) exec(ctx context.Context, text string, args ...any) (int64, error) {
	return t.s.exec(ctx, t.Tx, t.undo, text, args...)
}

func (t *tx) commit(ctx context.Context) error {
	return call(ctx, nil, func() error {
		defer t.free()
		return t.Commit()
	})
}

// checkText refuses what Postgres cannot keep as text.
func checkText(what, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%w %s: %d bytes, at most %d", saccount.ErrInvalid, what, len(s), maxText)
	}
	if !valid(s) {
		return fmt.Errorf("%w %s: not UTF-8, or with a zero byte", saccount.ErrInvalid, what)
	}
	return nil
}

func checkOp(op *quota.Op) error {
	if err := checkText("organization", op.Org); err != nil {
		return err
	}
	for _, id := range [...]string{op.ID, op.Of, string(op.Caller)} {
		if err := checkText("id", id); err != nil {
			return err
		}
	}
	for _, l := range op.Levels {
		if err := checkText("subject", string(l.Subject)); err != nil {
			return err
		}
		for i := range l.Limits {
			if err := checkText("limit", l.Limits[i].Limit); err != nil {
				return err
			}
		}
	}
	for i := range op.Counts {
		if err := checkText("subject", string(op.Counts[i].Subject)); err != nil {
			return err
		}
		if err := checkText("series", op.Counts[i].Series); err != nil {
			return err
		}
	}
	return nil
}
