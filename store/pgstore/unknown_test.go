package pgstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// What an error says of a transaction that it ended: whether it is worth another
// try, and whether it is sure that nothing was done.
func TestWhatErrorsSay(t *testing.T) {
	for code, want := range map[pqerror.Code][2]bool{
		"40001": {true, true}, "40P01": {true, true}, "55P03": {true, true}, "53300": {true, true}, "25006": {true, true}, "25P03": {true, true},
		"40003": {true, false}, "08006": {true, false}, "57P01": {true, false},
		"23505": {false, true}, "22003": {false, true}, "42P01": {false, true}, "57014": {false, true},
	} {
		err := fmt.Errorf("commit: %w", &pq.Error{Code: code})
		assert.Equal(t, want, [2]bool{again(err), sure(err)}, code)
	}
	for _, err := range []error{driver.ErrBadConn, io.ErrUnexpectedEOF, net.ErrClosed, errors.New("conn closed")} {
		assert.True(t, again(err), err)
		assert.False(t, sure(err), err)
	}
	assert.False(t, again(errors.New("something else")))
}

// unsure is a driver that says of every third commit that it does not know what
// became of it (SQLSTATE 40003), and has done it or not in turn.
type unsure struct {
	driver.Connector
	on            atomic.Bool
	commits       atomic.Int64
	done, undone  atomic.Int64
	within, whole atomic.Int64 // of them: a COMMIT, a statement that commits by itself
}

// verdict of one commit.
type verdict int

const (
	honest verdict = iota
	doneUnknown
	undoneUnknown
)

func (u *unsure) next() verdict {
	if !u.on.Load() {
		return honest
	}
	switch u.commits.Add(1) % 6 {
	case 3:
		u.done.Add(1)
		return doneUnknown
	case 0:
		u.undone.Add(1)
		return undoneUnknown
	}
	return honest
}

var errUnknown = &pq.Error{Code: unknown, Message: "statement completion unknown"}

func (u *unsure) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := u.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &unsureConn{c.(pqConn), u, false}, nil
}

// pqConn is what of lib/pq's connection is used.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.ExecerContext
	driver.SessionResetter
	driver.Validator
}

type unsureConn struct {
	pqConn
	u      *unsure
	within bool
}

func (c *unsureConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	t, err := c.pqConn.BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	c.within = true
	return &unsureTx{t, c}, nil
}

func (c *unsureConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	s, err := c.pqConn.PrepareContext(ctx, text)
	if err != nil || !strings.Contains(text, ".batches (token") {
		return s, err
	}
	return &unsureStmt{s, c}, nil
}

type unsureTx struct {
	driver.Tx
	c *unsureConn
}

func (t *unsureTx) Rollback() error {
	t.c.within = false
	return t.Tx.Rollback()
}

func (t *unsureTx) Commit() error {
	t.c.within = false
	v := t.c.u.next()
	end := t.Tx.Commit
	if v == undoneUnknown {
		end = t.Tx.Rollback
	}
	if err := end(); err != nil || v == honest {
		return err
	}
	t.c.u.within.Add(1)
	return errUnknown
}

// unsureStmt is the statement that posts a batch; outside of a transaction it is
// its own commit.
type unsureStmt struct {
	driver.Stmt
	c *unsureConn
}

func (s *unsureStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s *unsureStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	v := honest
	if !s.c.within {
		v = s.c.u.next()
	}
	if v != honest {
		s.c.u.whole.Add(1)
	}
	if v == undoneUnknown {
		return nil, errUnknown
	}
	rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	if err != nil || v == honest {
		return rows, err
	}
	into := make([]driver.Value, len(rows.Columns()))
	for err == nil {
		err = rows.Next(into)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return nil, errors.Join(errUnknown, err, rows.Close())
}

// Commits of which the server says that it does not know what became of them:
// each charge and each change of a record counts once, none fails.
func TestUnknownCommits(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	inner, err := pq.NewConnector(dsn)
	require.NoError(t, err)
	u := &unsure{Connector: inner}
	db := sql.OpenDB(u)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	cfg := Config{Schema: schema}
	require.NoError(t, Migrate(ctx, db, cfg))
	s, err := New(db, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	f := newFleet(t, s, saccount.Limits{"": saccount.NewLimit(quota.MaxCredits, quota.Period{Unit: quota.Month})}, nil, nil)
	u.on.Store(true)
	const charges = 120
	for i := range int64(charges) {
		c := saccount.Charge{Amount: 1}
		if i%2 == 0 {
			c.ID = fmt.Sprint("c", i)
		}
		_, d, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[i%4], nil, c)
		require.NoError(t, err)
		require.True(t, d.Allowed)
		if i%10 == 0 {
			name := fmt.Sprint("Renamed ", i)
			_, err := f.svc.UpdateKey(ctx, actor, "acme", f.keys[0].ID, saccount.Update{Name: &name})
			require.NoError(t, err)
		}
	}
	u.on.Store(false)
	credits, requests := f.sums(t)
	assert.EqualValues(t, charges, credits)
	assert.EqualValues(t, charges, requests)
	key, err := f.svc.GetKey(ctx, "acme", f.keys[0].ID)
	require.NoError(t, err)
	assert.Equal(t, "Renamed 110", key.Name)
	var entries int
	require.NoError(t, db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %q.audit WHERE org = 'acme'`, schema)).Scan(&entries))
	assert.Equal(t, 1+2+4+charges/10, entries, "an entry a change")
	t.Logf("unknown: %d done, %d not; %d of a COMMIT, %d of one statement", u.done.Load(), u.undone.Load(), u.within.Load(), u.whole.Load())
	assert.Greater(t, min(u.done.Load(), u.undone.Load(), u.within.Load(), u.whole.Load()), int64(5))
}
