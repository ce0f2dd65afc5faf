//go:build unix

package pgtest

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func one(t *testing.T, dsn string) {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	defer db.Close()
	var n int
	require.NoError(t, db.QueryRow("SELECT 1").Scan(&n))
}

// A schema of its own, on a server that all tests of a binary share.
func TestSchema(t *testing.T) {
	dsn, a := Schema(t)
	again, b := Schema(t)
	assert.Equal(t, dsn, again)
	assert.NotEqual(t, a, b)
	one(t, dsn)
}

// A server that is killed comes back with its data, and Stop leaves nothing.
func TestKill(t *testing.T) {
	s, err := Start(Config{})
	Need(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	db, err := sql.Open("postgres", s.DSN())
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE t AS SELECT 7 AS n")
	require.NoError(t, err)
	require.NoError(t, s.Kill())
	require.Eventually(t, func() bool { return db.Ping() != nil }, 30*time.Second, time.Millisecond, "its last processes end")
	require.NoError(t, s.Run())
	var n int
	require.NoError(t, db.QueryRow("SELECT n FROM t").Scan(&n))
	assert.Equal(t, 7, n)
	dir := s.dir
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop())
	assert.NoDirExists(t, dir)
}

// A test binary that is killed leaves no server and no directory behind.
func TestOrphan(t *testing.T) {
	if os.Getenv("PGTEST_ORPHAN") != "" {
		s, err := Start(Config{})
		require.NoError(t, err)
		pid, err := s.postmaster()
		require.NoError(t, err)
		fmt.Println("orphan", s.dir, pid)
		select {}
	}
	_, err := Bin()
	Need(t, err)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestOrphan$")
	cmd.Env = append(os.Environ(), "PGTEST_ORPHAN=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var dir string
	var pid int
	for in := bufio.NewScanner(out); in.Scan(); {
		if strings.HasPrefix(in.Text(), "orphan ") {
			_, err := fmt.Sscanf(in.Text(), "orphan %s %d", &dir, &pid)
			require.NoError(t, err)
			break
		}
	}
	require.NotEmpty(t, dir)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	assert.Eventually(t, func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err) && syscall.Kill(pid, 0) != nil
	}, 30*time.Second, 20*time.Millisecond)
}

// A schema that a subtest leaves comes to the next one as it was made.
func TestSchemas(t *testing.T) {
	dsn := DSN(t)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	made := 0
	all := NewSchemas(t, dsn, func(schema string) error {
		made++
		_, err := db.Exec(fmt.Sprintf("CREATE SCHEMA %[1]s; CREATE TABLE %[1]s.a (n int); CREATE TABLE %[1]s.b (n int); INSERT INTO %[1]s.b VALUES (7)", schema))
		return err
	})
	for range 3 {
		t.Run("", func(t *testing.T) {
			schema := all.Take(t)
			var a, b int
			require.NoError(t, db.QueryRow(fmt.Sprintf("SELECT (SELECT count(*) FROM %[1]s.a), (SELECT sum(n) FROM %[1]s.b)", schema)).Scan(&a, &b))
			assert.Zero(t, a)
			assert.Equal(t, 7, b)
			_, err := db.Exec(fmt.Sprintf("INSERT INTO %[1]s.a VALUES (1); UPDATE %[1]s.b SET n = 8; INSERT INTO %[1]s.b VALUES (9)", schema))
			require.NoError(t, err)
		})
	}
	assert.Equal(t, 1, made)
}
