//go:build unix

package pgtest

import (
	"database/sql"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A proxy knows which statement a message is about, cuts where it is told to,
// and leads to another server.
func TestProxy(t *testing.T) {
	if os.Getenv(EnvDSN) != "" {
		t.Skip("it needs a private server")
	}
	DSN(t)
	p, err := NewProxy(Host())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	db, err := sql.Open("postgres", p.DSN())
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var mu sync.Mutex
	var texts []string
	within := 0
	p.Judge(func(m *Message) Verdict {
		mu.Lock()
		defer mu.Unlock()
		if !m.FromServer && (m.Type == 'E' || m.Type == 'Q') {
			texts = append(texts, m.Text)
		}
		if m.Within {
			within++
		}
		return Pass
	})
	tx, err := db.Begin()
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRow("SELECT $1::int + 1", 6).Scan(&n))
	require.NoError(t, tx.Commit())
	mu.Lock()
	assert.Equal(t, 7, n)
	require.Len(t, texts, 3)
	assert.Equal(t, []string{"SELECT $1::int + 1", "COMMIT"}, texts[1:])
	assert.Positive(t, within)
	mu.Unlock()

	p.Judge(func(m *Message) Verdict {
		if m.FromServer && m.Text == "CREATE TABLE proxied ()" && m.Type == 'C' {
			return Cut
		}
		return Pass
	})
	_, err = db.Exec("CREATE TABLE proxied ()")
	require.Error(t, err, "the reply was lost")
	_, err = db.Exec("DROP TABLE proxied")
	require.NoError(t, err, "what it was for was done")
	p.Target("/nonexistent")
	p.Drop()
	require.Error(t, db.Ping())
	p.Target(Host())
	require.NoError(t, db.Ping())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.Error(t, db.Ping())
}

// Each transaction through a Bouncer may come to another connection.
func TestBouncer(t *testing.T) {
	if os.Getenv(EnvDSN) != "" {
		t.Skip("it needs a private server")
	}
	DSN(t)
	b, err := StartBouncer(Host(), 2)
	Need(t, err)
	t.Cleanup(func() { require.NoError(t, b.Stop()) })
	db, err := sql.Open("postgres", b.DSN()+" binary_parameters=yes")
	require.NoError(t, err)
	defer db.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]bool{}
	for range 16 {
		wg.Go(func() {
			var pid int
			if assert.NoError(t, db.QueryRow("SELECT pg_backend_pid()").Scan(&pid)) {
				mu.Lock()
				seen[pid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, len(seen), 2)
	require.NoError(t, b.Stop())
	require.NoError(t, b.Stop())
	require.Error(t, db.Ping())
}

// What a server with a standby acknowledged is there when the standby takes its
// place.
func TestStandby(t *testing.T) {
	s, err := Start(Config{})
	Need(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	standby, err := s.Standby(Config{})
	Need(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Stop()) })
	db, err := sql.Open("postgres", s.DSN())
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE t AS SELECT 7 AS n")
	require.NoError(t, err)
	require.NoError(t, s.Kill())
	require.NoError(t, standby.Promote())
	now, err := sql.Open("postgres", standby.DSN())
	require.NoError(t, err)
	defer now.Close()
	var n int
	require.NoError(t, now.QueryRow("UPDATE t SET n = n + 1 RETURNING n").Scan(&n))
	assert.Equal(t, 8, n)
}
