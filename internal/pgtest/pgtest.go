// Package pgtest gives tests a real Postgres: the server that
// KEYPURSE_TEST_POSTGRES names (a connection string), or a private cluster of
// their own on a unix socket, one per test binary, that is gone when the binary
// ends, however it ends.
//
// Where no Postgres can be had, tests that need one are skipped with a line that
// says what to type, and fail where CI is set: a green run cannot hide them.
package pgtest

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq" // the driver that tests open schemas with

	"github.com/keypurse/keypurse/internal/need"
)

// Environment variables.
const (
	// EnvDSN names a server to use instead of a private one.
	EnvDSN = "KEYPURSE_TEST_POSTGRES"
	// EnvBin names the directory of initdb and postgres, before all others.
	EnvBin = "KEYPURSE_TEST_POSTGRES_BIN"
)

// ErrNotFound is returned where there is no Postgres on this machine.
var ErrNotFound error = need.Missing("pgtest: no Postgres was found; type: go run ./internal/setup (as root it installs Debian's postgresql, else a private one by npm), or set " + EnvDSN + " to a connection string")

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// DSN is the connection string of the test binary's server, started when it is
// first asked for.
func DSN(tb testing.TB) string {
	tb.Helper()
	if dsn := os.Getenv(EnvDSN); dsn != "" {
		return dsn
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = Start(Config{})
	}
	Need(tb, shared.err)
	return shared.server.DSN()
}

// Host is the directory of that server's socket; empty where a DSN was given or
// none was asked for yet.
func Host() string {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return ""
	}
	return shared.server.Host()
}

// Need skips a test where err is ErrNotFound, but not under CI, and ends it on
// any other error.
func Need(tb testing.TB, err error) {
	tb.Helper()
	need.Have(tb, err)
}

// Schema is the name of a schema that no other test uses, dropped with what is
// in it when the test ends. It is not created.
func Schema(tb testing.TB) (dsn, schema string) {
	tb.Helper()
	dsn = DSN(tb)
	schema = "test_" + strings.ToLower(rand.Text()[:12])
	tb.Cleanup(func() {
		db, err := sql.Open("postgres", dsn)
		if err == nil {
			_, err = db.Exec(fmt.Sprintf(`DROP SCHEMA IF EXISTS %q CASCADE`, schema))
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			tb.Errorf("pgtest: drop schema %s: %v", schema, err)
		}
	})
	return dsn, schema
}
