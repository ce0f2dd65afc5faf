package proof

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// cutter cuts connections at commits: every third of them, before it reaches
// the server and after it went through in turn.
type cutter struct {
	mu            sync.Mutex
	commits       int
	waiting       map[int]bool // connections whose next answer is lost
	before, after int
}

// commits reports whether a statement ends a transaction that wrote: COMMIT, or
// what is one by itself.
func commits(m *pgtest.Message) bool {
	return strings.EqualFold(m.Text, "commit") || !m.Within && (strings.Contains(m.Text, ".batches (token") || strings.HasPrefix(m.Text, "UPDATE"))
}

func (c *cutter) judge(m *pgtest.Message) pgtest.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.FromServer && m.Type == 'Z' && c.waiting[m.Conn]:
		delete(c.waiting, m.Conn)
		c.after++
		return pgtest.Cut
	case !m.FromServer && (m.Type == 'E' || m.Type == 'Q') && commits(m):
		c.commits++
		switch c.commits % 6 {
		case 0:
			c.before++
			return pgtest.Cut
		case 3:
			c.waiting[m.Conn] = true
		}
	}
	return pgtest.Pass
}

func (c *cutter) cuts() (before, after int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.before, c.after
}

// until runs do from some workers until so many commits of each kind were cut.
func (c *cutter) until(n int, do func(worker, i int)) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if before, after := c.cuts(); before >= n && after >= n {
					return
				}
				do(w, i)
			}
		})
	}
	wg.Wait()
}

// Commits whose answer is lost, before they reached the server and after they
// went through: with and without an id, no charge fails, every one counts, and
// none twice. An UPDATE that is tried again over the same cuts doubles.
func TestAmbiguousCommits(t *testing.T) {
	t.Parallel()
	host := private(t)
	n := count(t, "KEYPURSE_CUTS", 50)
	for _, w := range direct {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			_, schema := pgtest.Schema(t)
			proxy := throughProxy(t, host)
			beside := store(t, open(t, "postgres", pgtest.DSN(t)), pgstore.Config{Schema: schema, Timeout: patient})
			db := open(t, w.driver, proxy.DSN()+w.dsn)
			f := newFleet(t, store(t, db, w.config(schema)))
			c := &cutter{waiting: map[int]bool{}}
			proxy.Judge(c.judge)
			var acknowledged atomic.Int64
			c.until(n, func(worker, i int) {
				x := saccount.Charge{Amount: 1}
				if i%2 == 0 {
					x.ID = fmt.Sprintf("c%d-%d", worker, i)
				}
				_, d, err := f.svc.AuthenticateAndCharge(ctx, f.tokens[worker], nil, x)
				if assert.NoError(t, err) && assert.True(t, d.Allowed) {
					acknowledged.Add(1)
				}
			})
			proxy.Judge(nil)
			before, after := c.cuts()
			f.sums(t, beside, acknowledged.Load())
			t.Logf("%d charges; %d commits lost on the way there, %d on the way back", acknowledged.Load(), before, after)

			updated, counted := control(t, proxy, db, schema, n)
			assert.Greater(t, counted, updated, "the control must double, or these cuts prove nothing")
			t.Logf("control: %d updates by hand counted as %d", updated, counted)
		})
	}
}

// control counts in a row as one does who tries again after every error.
func control(t *testing.T, proxy *pgtest.Proxy, db *sql.DB, schema string, n int) (updated, counted int64) {
	t.Helper()
	table := fmt.Sprintf("%q.by_hand", schema)
	_, err := db.Exec("CREATE TABLE " + table + " (n bigint NOT NULL)")
	require.NoError(t, err)
	_, err = db.Exec("INSERT INTO " + table + " VALUES (0)")
	require.NoError(t, err)
	c := &cutter{waiting: map[int]bool{}}
	proxy.Judge(c.judge)
	var done atomic.Int64
	c.until(n, func(int, int) {
		for try := 0; ; try++ {
			if _, err := db.Exec("UPDATE " + table + " SET n = n + 1"); err == nil {
				break
			} else if !assert.Less(t, try, 100, err) {
				return
			}
		}
		done.Add(1)
	})
	proxy.Judge(nil)
	require.NoError(t, db.QueryRow("SELECT n FROM "+table).Scan(&counted))
	return done.Load(), counted
}
