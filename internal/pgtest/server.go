//go:build unix

package pgtest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config of a private cluster.
type Config struct {
	// Bin is the directory of its programs; empty: that of Bin.
	Bin string
	// Settings are lines of postgresql.conf.
	Settings []string
	// Data makes the data directory instead of initdb, as pg_basebackup does
	// for a standby.
	Data func(s *Server, dir string) error
}

// Server is a private cluster. It ends when Stop is called or this process is
// gone.
type Server struct {
	bin  string
	dir  string // the socket, the log and the data
	cfg  Config
	cred *syscall.Credential
	proc *exec.Cmd
	life *os.File // its end is the server's
}

// A server may take startTime to come up; then it is started anew: what is left
// of one that was killed may have been in its way.
const (
	startTime = 12 * time.Second
	starts    = 5
)

// Start makes a cluster and starts it. The error is ErrNotFound where there are
// no programs to run.
func Start(cfg Config) (*Server, error) {
	if cfg.Bin == "" {
		bin, err := Bin()
		if err != nil {
			return nil, err
		}
		cfg.Bin = bin
	}
	// Not below os.TempDir: the path of a socket has about 100 bytes, and root's
	// may be closed to the user that the server runs as.
	dir, err := os.MkdirTemp("/tmp", "pgtest-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	s := &Server{bin: cfg.Bin, dir: dir, cfg: cfg}
	if s.cred, err = own(dir); err == nil {
		err = s.init()
	}
	if err == nil {
		err = s.Run()
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop(), os.RemoveAll(dir))
	}
	return s, nil
}

// own gives a directory to a user that may run a server, and says who that is:
// initdb refuses root. Nil: this process's own.
func own(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{os.Getenv("SUDO_USER"), "postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if name == "" || name == "root" || err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, fmt.Errorf("pgtest: %w", err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgtest: root may not run Postgres, and there is no user postgres or nobody to run it as")
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// Tool runs one of the cluster's programs to its end, as the server's user.
func (s *Server) Tool(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgtest: %s: %w: %s", name, err, out)
	}
	return nil
}

func (s *Server) init() error {
	if s.cfg.Data != nil {
		return s.cfg.Data(s, s.data())
	}
	return s.Tool("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
}

// Run starts the server where it does not run, and waits until it answers.
func (s *Server) Run() error {
	var err error
	for range starts {
		if err = s.runOnce(); err == nil {
			return nil
		}
		_ = s.end(true) // it may have ended by itself
	}
	return err
}

func (s *Server) runOnce() error {
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer log.Close()
	argv := []string{filepath.Join(s.bin, "postgres"), "-D", s.data(), "-k", s.dir, "-h", ""}
	for _, line := range append([]string{"max_connections=200", "shared_buffers=64MB", "max_wal_size=2GB"}, s.cfg.Settings...) {
		argv = append(argv, "-c", line)
	}
	if s.proc, s.life, err = guarded(s.dir, "QUIT", log, s.cred, argv...); err != nil {
		return err
	}
	return s.wait()
}

// guarded starts a program that ends, by a signal, when life is closed or this
// process is gone; the directory goes with it.
func guarded(dir, signal string, log *os.File, cred *syscall.Credential, argv ...string) (proc *exec.Cmd, life *os.File, err error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("pgtest: %w", err)
	}
	defer pr.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "pgtest", dir, signal}, argv...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, pr, log, log
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	// A group of its own: a terminal's ^C must not reach the server before us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("pgtest: %w", err), pw.Close())
	}
	return cmd, pw, nil
}

// guard runs a server in the background and waits for its standard input to
// end: then this process is gone, or Stop was called. A line on it instead of
// its end keeps the directory.
const guard = `dir=$1; signal=$2; shift 2
"$@" </dev/null & p=$!
keep=
if read line; then keep=1; fi
kill -$signal $p 2>/dev/null
kill -CONT $p 2>/dev/null
wait $p
[ -n "$keep" ] || rm -rf "$dir"`

func (s *Server) wait() error {
	db, err := sql.Open("postgres", s.DSN())
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer db.Close()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // another process's start: there is nothing to wait on
		if err = db.Ping(); err == nil {
			return nil
		}
		if time.Since(start) > startTime {
			text, _ := os.ReadFile(s.log())
			return fmt.Errorf("pgtest: the server does not answer: %w; its log:\n%s", err, text)
		}
	}
}

// DSN is its connection string, for lib/pq and pgx alike.
func (s *Server) DSN() string { return dsn(s.dir) }

func dsn(host string) string {
	return "host=" + host + " user=postgres dbname=postgres sslmode=disable"
}

// Host is the directory of its socket.
func (s *Server) Host() string { return s.dir }

// Socket is the path of its unix socket.
func (s *Server) Socket() string { return socket(s.dir) }

func socket(host string) string { return filepath.Join(host, ".s.PGSQL.5432") }

// Log is what the server wrote into its log so far.
func (s *Server) Log() (string, error) {
	text, err := os.ReadFile(s.log())
	return string(text), err
}

// PID is the server's first process, whose children all others are.
func (s *Server) PID() (int, error) { return s.postmaster() }

// postmaster is the server's first process.
func (s *Server) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("pgtest: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("pgtest: postmaster.pid says %q", line)
	}
	return pid, nil
}

// Signal sends a signal to the server's first process, or to all of its
// processes where all is set (SIGSTOP and SIGCONT).
func (s *Server) Signal(sig syscall.Signal, all bool) error {
	pid, err := s.postmaster()
	if err != nil {
		return err
	}
	pids := []int{pid}
	if all {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() // none is no error
		for _, f := range strings.Fields(string(out)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	for _, p := range pids {
		if e := syscall.Kill(p, sig); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("pgtest: signal %v: %w", sig, e))
		}
	}
	return err
}

// Kill ends the server at once, by SIGKILL of all of its processes, and keeps
// its data: Run starts it again.
func (s *Server) Kill() error {
	if err := s.Signal(syscall.SIGKILL, true); err != nil {
		return err
	}
	return s.end(true)
}

// Stop ends the server and removes all that it left. Idempotent.
func (s *Server) Stop() error { return s.end(false) }

func (s *Server) end(keep bool) (err error) {
	if s.proc == nil {
		return nil
	}
	if keep {
		_, err = s.life.WriteString("keep\n")
	}
	err = errors.Join(err, s.life.Close())
	if e := s.proc.Wait(); e != nil && !keep {
		var exit *exec.ExitError
		if !errors.As(e, &exit) {
			err = errors.Join(err, e)
		}
	}
	s.proc, s.life = nil, nil
	if keep { // what the last life left in the way of the next
		for _, name := range []string{s.Socket(), s.Socket() + ".lock"} {
			_ = os.Remove(name)
		}
	}
	return err
}
