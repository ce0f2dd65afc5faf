package pgstore

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/saccount"
)

// Many callers that look up keys at once get each its own, and share nothing.
func TestManyLookUpsAtOnce(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	s := openAt(t, dsn, Config{Schema: schema, Timeout: patient})
	f := newFleet(t, s, nil, nil, nil)
	// Until the table is let go of, all of them wait.
	tx, err := s.db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE "` + schema + `".records IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	var wg sync.WaitGroup
	got := make([]saccount.Lineage, 200)
	for i := range got {
		wg.Go(func() {
			if i%10 == 9 {
				_, err := s.Lookup(ctx, "", saccount.KindKey, fmt.Sprint("unknown", i))
				assert.ErrorIs(t, err, saccount.ErrNotFound)
				return
			}
			var err error
			got[i], err = s.Lookup(ctx, "", saccount.KindKey, f.keys[i%len(f.keys)].ID)
			assert.NoError(t, err)
		})
	}
	require.NoError(t, tx.Commit())
	wg.Wait()
	for i := range got {
		if i%10 == 9 {
			continue
		}
		require.Equal(t, f.keys[i%len(f.keys)].ID, got[i].Record.ID)
		require.Equal(t, f.keys[i%len(f.keys)].Account, got[i].Account.ID)
		require.Equal(t, "acme", got[i].Org.ID)
		for _, r := range []*saccount.Record{&got[i].Record, got[i].Account, got[i].Org} {
			require.NotEqual(t, byte('x'), r.Data[0], "another caller's")
			r.Data[0] = 'x'
		}
	}
}

// What a server does not answer on some connections keeps only those waiting
// that asked there.
func TestLookUpsOnOtherConnections(t *testing.T) {
	t.Parallel()
	dsn, schema := pgtest.Schema(t)
	f := newFleet(t, openAt(t, dsn, Config{Schema: schema, Timeout: patient}), nil, nil, nil)
	c, err := pq.NewConnector(dsn)
	require.NoError(t, err)
	d := &stillDialer{release: make(chan struct{})}
	c.Dialer(d)
	db := sql.OpenDB(c)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := New(db, Config{Schema: schema, Timeout: patient})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	look := func(i int) error {
		_, err := s.Lookup(ctx, "", saccount.KindKey, f.keys[i].ID)
		return err
	}
	require.NoError(t, look(0))

	var wg sync.WaitGroup
	for i := range askFlights {
		d.still.Store(1)
		wg.Go(func() { assert.NoError(t, look(i)) })
		require.Eventually(t, func() bool { return d.still.Load() == 0 }, patient, time.Millisecond, "a question is under way and gets no answer")
	}
	require.NoError(t, look(3), "the others go on")
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Lookup(short, "", saccount.KindKey, f.keys[3].ID)
	require.ErrorIs(t, err, context.Canceled)
	close(d.release)
	wg.Wait()
}

// stillDialer dials connections on which nothing comes any more when it is told
// so, until it is released.
type stillDialer struct {
	still   atomic.Int64 // how many connections are to stand still from the next answer on
	release chan struct{}
}

func (d *stillDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &stillConn{c, d}, err
}

func (d *stillDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, timeout)
	return &stillConn{c, d}, err
}

type stillConn struct {
	net.Conn
	d *stillDialer
}

func (c *stillConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if left := c.d.still.Load(); left > 0 && c.d.still.CompareAndSwap(left, left-1) {
		<-c.d.release
	}
	return n, err
}
