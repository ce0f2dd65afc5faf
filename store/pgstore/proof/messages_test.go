package proof

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// noon is Tuesday, 10 March 2026, 12:00 UTC, in microseconds.
const noon = 1773144000 * 1_000_000

// most is the limit of organizations that are charged here.
const most = 1000

// charge is a charge of one credit on an organization with one limit.
func charge(org, id string, thresholds ...quota.Threshold) *quota.Op {
	return &quota.Op{Verb: quota.VerbCharge, Org: org, ID: id, Amount: 1, At: noon, Keep: 1 << 60, Levels: []*quota.Level{levelOf(org, thresholds...)}}
}

func levelOf(org string, thresholds ...quota.Threshold) *quota.Level {
	return &quota.Level{Subject: quota.NewSubject(quota.KindOrg, org), Bucket: noon, From: noon, Until: noon + 1,
		Limits: []quota.Entry{{Limit: "credits", Number: 1, Max: most, Thresholds: thresholds}}}
}

// cutCase is a call over a connection that is cut at one of its messages.
type cutCase struct {
	name  string
	short bool // over every driver where the whole is not asked for
	fresh bool // each question on a connection of its own, which is cut too
	run   func(t *testing.T, c *cutRun, i int)
}

// cutRun is a Store behind the proxy and one beside it, of one database.
type cutRun struct {
	proxied, beside *pgstore.Store
	arm             func()
	used            map[string]quota.Credits // of each organization
	requests        map[string]int64
}

// apply charges where a message will be cut.
func (c *cutRun) apply(t *testing.T, op *quota.Op) {
	t.Helper()
	c.arm()
	require.NoError(t, c.proxied.Apply(ctx, []*quota.Op{op}))
	c.count(t, op)
}

// warm charges where nothing is cut.
func (c *cutRun) warm(t *testing.T, s *pgstore.Store, op *quota.Op) {
	t.Helper()
	require.NoError(t, s.Apply(ctx, []*quota.Op{op}))
	c.count(t, op)
}

func (c *cutRun) count(t *testing.T, op *quota.Op) {
	t.Helper()
	require.Equal(t, quota.Applied, op.Result.Outcome, op.Result.Err)
	c.used[op.Org] += op.Amount
	c.requests[op.Org]++
}

// counted checks that an organization was charged what was answered, and its
// usage with it.
func (c *cutRun) counted(t *testing.T, org string) {
	t.Helper()
	f, err := c.beside.Peek(ctx, org, []*quota.Level{levelOf(org)}, noon)
	require.NoError(t, err)
	assert.Equal(t, c.used[org], f[0].Used, "%s: charged and answered", org)
	credits, requests := usageOf(t, c.beside, org)
	assert.Equal(t, c.used[org], credits)
	assert.Equal(t, c.requests[org], requests)
}

func cutCases() []cutCase {
	name := func(i int) string { return fmt.Sprintf("o%d", i) }
	one := func(withID bool) func(t *testing.T, c *cutRun, i int) {
		return func(t *testing.T, c *cutRun, i int) {
			c.warm(t, c.proxied, charge("same", ""))
			op := charge("same", "")
			if withID {
				op.ID = name(i)
			}
			c.apply(t, op)
			c.counted(t, "same")
		}
	}
	write := func(t *testing.T, c *cutRun, i int) { c.write(t, i) }
	return []cutCase{
		{"a charge without an id", true, false, one(false)},
		{"a charge with an id", true, false, one(true)},
		{"a charge on new connections", false, true, one(false)},
		{"the first charge of an organization", false, false, func(t *testing.T, c *cutRun, i int) {
			c.warm(t, c.proxied, charge("same", ""))
			c.apply(t, charge(name(i), ""))
			c.counted(t, name(i))
		}},
		{"a charge that another process was before", false, false, func(t *testing.T, c *cutRun, i int) {
			c.warm(t, c.proxied, charge(name(i), ""))
			c.warm(t, c.beside, charge(name(i), ""))
			c.apply(t, charge(name(i), ""))
			c.counted(t, name(i))
		}},
		{"a charge that locks first", false, false, func(t *testing.T, c *cutRun, i int) {
			c.warm(t, c.proxied, charge(name(i), ""))
			c.warm(t, c.beside, charge(name(i), ""))
			c.warm(t, c.proxied, charge(name(i), ""))
			c.apply(t, charge(name(i), ""))
			c.counted(t, name(i))
		}},
		{"a charge with an alert", false, false, func(t *testing.T, c *cutRun, i int) {
			c.warm(t, c.proxied, charge(name(i), ""))
			before := alerts(t, c.beside)
			op := charge(name(i), "", quota.Percent(50))
			op.Amount = most / 2
			c.apply(t, op)
			c.counted(t, name(i))
			assert.Equal(t, before+1, alerts(t, c.beside), "once")
		}},
		{"a batch of several organizations, one of which another process was in", false, false, func(t *testing.T, c *cutRun, i int) {
			a, b := name(i)+"a", name(i)+"b"
			for _, org := range []string{a, b} {
				c.warm(t, c.proxied, charge(org, ""))
			}
			c.warm(t, c.beside, charge(b, ""))
			ops := []*quota.Op{charge(a, ""), charge(b, "")}
			c.arm()
			require.NoError(t, c.proxied.Apply(ctx, ops))
			for _, op := range ops {
				c.count(t, op)
				c.counted(t, op.Org)
			}
		}},
		{"a write", true, false, write},
		{"a write on new connections", false, true, write},
	}
}

// write puts a new record and changes another, with an audit entry.
func (c *cutRun) write(t *testing.T, i int) {
	t.Helper()
	org := saccount.Record{Kind: saccount.KindOrg, Org: "acme", ID: "acme", Name: "Acme", Created: quota.Time(noon)}
	if was, err := c.beside.Lookup(ctx, "acme", saccount.KindOrg, "acme"); err == nil {
		org = was.Record
	} else {
		require.ErrorIs(t, err, saccount.ErrNotFound)
	}
	account := saccount.Record{Kind: saccount.KindAccount, Org: "acme", ID: fmt.Sprint("a", i), Parent: "acme", Name: fmt.Sprint("Account ", i), Created: quota.Time(noon)}
	b := saccount.Batch{Org: "acme", At: quota.Time(noon), Changes: []saccount.Change{{Record: org}, {Record: account}},
		Audit: []saccount.Entry{{At: quota.Time(noon), Data: []byte("{}")}}}
	before := audits(t, c.beside)
	last, _, err := c.beside.Changes(ctx, 0)
	require.NoError(t, err)
	c.arm()
	require.NoError(t, c.proxied.Write(ctx, b))
	now, err := c.beside.Lookup(ctx, "acme", saccount.KindOrg, "acme")
	require.NoError(t, err)
	assert.Equal(t, org.Revision+1, now.Record.Revision)
	_, err = c.beside.Lookup(ctx, "acme", saccount.KindAccount, account.ID)
	require.NoError(t, err)
	assert.Equal(t, before+1, audits(t, c.beside), "once")
	next, _, err := c.beside.Changes(ctx, 0)
	require.NoError(t, err)
	assert.Equal(t, last+1, next, "once")
}

// Whatever message is lost, in whichever direction, and the connection with it:
// a call returns in time, and what it says was done was done once. Over lib/pq,
// and over the others in part, or wholly where KEYPURSE_PROOF_WHOLE is set.
func TestEveryMessageCut(t *testing.T) {
	t.Parallel()
	host := private(t)
	for _, w := range direct {
		for _, x := range cutCases() {
			if w.name != direct[0].name && !x.short && !whole() {
				continue
			}
			t.Run(w.name+", "+x.name, func(t *testing.T) {
				t.Parallel()
				_, schema := pgtest.Schema(t)
				proxy := throughProxy(t, host)
				db := open(t, w.driver, proxy.DSN()+w.dsn)
				if x.fresh {
					db.SetMaxIdleConns(-1)
				}
				cfg := w.config(schema)
				cfg.Timeout = cutTimeout
				c := &cutRun{proxied: store(t, db, cfg), beside: store(t, open(t, "postgres", pgtest.DSN(t)), pgstore.Config{Schema: schema, Timeout: patient}), used: map[string]quota.Credits{}, requests: map[string]int64{}}
				cutEach(t, proxy, c, x)
			})
		}
	}
}

// cutTimeout bounds the calls that are cut.
const cutTimeout = 30 * time.Second

// cutEach runs a case with its first message cut, its second, and so on, until
// it has no more.
func cutEach(t *testing.T, proxy *pgtest.Proxy, c *cutRun, x cutCase) {
	t.Helper()
	cuts := 0
	for i := 1; ; i++ {
		require.Less(t, i, 400, "it ends")
		var passed atomic.Int64
		var cut atomic.Pointer[string]
		var armed time.Time
		c.arm = func() {
			armed = time.Now()
			proxy.Judge(func(m *pgtest.Message) pgtest.Verdict {
				if passed.Add(1) != int64(i) {
					return pgtest.Pass
				}
				from := "client"
				if m.FromServer {
					from = "server"
				}
				what := fmt.Sprintf("message %d, %q from the %s of %.80q", i, m.Type, from, m.Text)
				cut.Store(&what)
				return pgtest.Cut
			})
		}
		x.run(t, c, i)
		took := time.Since(armed)
		proxy.Judge(nil)
		what := cut.Load()
		if what == nil {
			break
		}
		assert.Less(t, took, cutTimeout, *what)
		cuts++
		if t.Failed() {
			t.Fatal("cut: ", *what)
		}
	}
	require.Greater(t, cuts, 4, "there are messages to cut")
	t.Logf("%d messages were cut, each once", cuts)
}

func alerts(t *testing.T, s *pgstore.Store) int {
	t.Helper()
	all, err := s.Outbox(ctx, 0, 10_000)
	require.NoError(t, err)
	return len(all)
}

func audits(t *testing.T, s *pgstore.Store) int {
	t.Helper()
	all, err := s.Audit(ctx, "acme", 0, 10_000)
	require.NoError(t, err)
	return len(all)
}
