//go:build unix

package pgtest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ErrNoBouncer is returned where there is no PgBouncer on this machine. It is
// an ErrNotFound too.
var ErrNoBouncer = fmt.Errorf("%w; no PgBouncer: on Debian, apt-get install pgbouncer", ErrNotFound)

// Bouncer is a PgBouncer of a test's own that pools by transactions: each may
// come to another connection of the server. It ends when Stop is called or this
// process is gone.
type Bouncer struct {
	dir  string
	proc *exec.Cmd
	life *os.File
}

const bouncerPort = "6432"

// FindBouncer is the path of PgBouncer's program, or ErrNoBouncer.
func FindBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"} {
		if executable(dir, "pgbouncer") {
			return filepath.Join(dir, "pgbouncer"), nil
		}
	}
	return "", ErrNoBouncer
}

// StartBouncer starts a PgBouncer in front of a server, whose directory of
// sockets is host, with a pool of so many connections to it.
func StartBouncer(host string, pool int) (*Bouncer, error) {
	path, err := FindBouncer()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "pgbouncer-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: bouncer: %w", err)
	}
	b := &Bouncer{dir: dir}
	if err := b.start(path, host, pool); err != nil {
		return nil, errors.Join(err, b.Stop(), os.RemoveAll(dir))
	}
	return b, nil
}

func (b *Bouncer) start(path, host string, pool int) error {
	// PgBouncer, too, refuses to run as root.
	cred, err := own(b.dir)
	if err != nil {
		return err
	}
	ini := filepath.Join(b.dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s user=postgres
[pgbouncer]
pool_mode = transaction
default_pool_size = %d
max_client_conn = 2000
unix_socket_dir = %s
listen_port = %s
auth_type = any
ignore_startup_parameters = extra_float_digits
`, host, pool, b.dir, bouncerPort)
	if err := os.WriteFile(ini, []byte(text), 0o644); err != nil {
		return fmt.Errorf("pgtest: bouncer: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: bouncer: %w", err)
	}
	defer log.Close()
	if b.proc, b.life, err = guarded(b.dir, "KILL", log, cred, path, ini); err != nil {
		return err
	}
	db, err := sql.Open("postgres", b.DSN())
	if err != nil {
		return fmt.Errorf("pgtest: bouncer: %w", err)
	}
	defer db.Close()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // another process's start: there is nothing to wait on
		if err = db.Ping(); err == nil {
			return nil
		}
		if time.Since(start) > startTime {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("pgtest: PgBouncer does not answer: %w; its log:\n%s", err, text)
		}
	}
}

// DSN is its connection string, for lib/pq and pgx alike.
func (b *Bouncer) DSN() string { return dsn(b.dir) + " port=" + bouncerPort }

// Stop ends it and removes all that it left. Idempotent.
func (b *Bouncer) Stop() error {
	if b.proc == nil {
		return nil
	}
	err := b.life.Close()
	var exit *exec.ExitError
	if e := b.proc.Wait(); e != nil && !errors.As(e, &exit) {
		err = errors.Join(err, e)
	}
	b.proc, b.life = nil, nil
	return err
}
