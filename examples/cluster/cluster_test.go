//go:build unix

package main

import (
	"bufio"
	"database/sql"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
)

// The program is built once for all tests.
var built struct {
	sync.Mutex
	dir string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(built.dir); err != nil {
		code = 1
	}
	os.Exit(code)
}

func build(t *testing.T) string {
	t.Helper()
	_, err := pgtest.Bin() // it starts a Postgres of its own
	pgtest.Need(t, err)
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "cluster-")
		require.NoError(t, err)
		built.dir = dir
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "cluster"), ".").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return filepath.Join(built.dir, "cluster")
}

var (
	workerLine = regexp.MustCompile(`^worker: process (\d+) on `)
	hostLine   = regexp.MustCompile(`^Postgres: .* host=(\S+)`)
	schemaLine = regexp.MustCompile(`^Postgres: .* schema (\S+)`)
)

// program is a run, as a process of its own.
type program struct {
	cmd    *exec.Cmd
	in     *bufio.Reader
	text   strings.Builder
	pids   []int
	dir    string // of its Postgres
	schema string // in a Postgres that was given
}

func start(t *testing.T, bin string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(bin, args...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() }) // where the test did not end it
	p.in = bufio.NewReader(out)
	return p
}

// line reads one, and notes what it names.
func (p *program) line() error {
	line, err := p.in.ReadString('\n')
	p.text.WriteString(line)
	if m := workerLine.FindStringSubmatch(line); m != nil {
		pid, _ := strconv.Atoi(m[1])
		p.pids = append(p.pids, pid)
	}
	if m := hostLine.FindStringSubmatch(line); m != nil {
		p.dir = m[1]
	}
	if m := schemaLine.FindStringSubmatch(line); m != nil {
		p.schema = m[1]
	}
	return err
}

// until reads lines until there was one with text.
func (p *program) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(p.text.String(), text) {
		require.NoError(t, p.line(), "it ended after printing:\n%s", p.text.String())
	}
}

// end reads the rest and waits.
func (p *program) end(t *testing.T) error {
	t.Helper()
	var err error
	for err == nil {
		err = p.line()
	}
	require.ErrorIs(t, err, io.EOF)
	return p.cmd.Wait()
}

// number is the credits of the line with such an end.
func (p *program) number(t *testing.T, of string) quota.Credits {
	t.Helper()
	for line := range strings.Lines(p.text.String()) {
		if before, _, ok := strings.Cut(line, of); ok {
			f := strings.Fields(before)
			c, err := quota.ParseCredits(f[len(f)-1])
			require.NoError(t, err, line)
			return c
		}
	}
	require.Fail(t, "no line of "+of, p.text.String())
	return 0
}

// leavesNothing waits until its processes and its Postgres are gone.
func (p *program) leavesNothing(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, p.pids)
	require.Eventually(t, func() bool {
		for _, pid := range p.pids {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		_, err := os.Stat(p.dir)
		return p.dir == "" || os.IsNotExist(err)
	}, time.Minute, 20*time.Millisecond, "processes %v, directory %s", p.pids, p.dir)
}

func TestTheSumsAgree(t *testing.T) {
	p := start(t, build(t), "-n", "2", "-callers", "8", "-for", "2500ms", "-kill", "400ms", "-limit", "400")
	require.NoError(t, p.end(t), p.text.String())
	assert.Contains(t, p.text.String(), " killed\n")
	used := p.number(t, "  used of the limit's 400, overage 0")
	assert.Positive(t, used)
	assert.Equal(t, used, p.number(t, "  admitted and charged"))
	assert.Zero(t, p.number(t, "  held now"))
	assert.Zero(t, p.number(t, "  asked for and not answered"))
	for _, l := range levels {
		assert.Equal(t, used, p.number(t, "  counted for "+l))
	}
	p.leavesNothing(t)
}

// With leases, what was answered and is not used is stranded, and no more.
func TestTheSumsAgreeWithLeases(t *testing.T) {
	p := start(t, build(t), "-n", "2", "-callers", "8", "-for", "2500ms", "-kill", "700ms", "-leases")
	require.NoError(t, p.end(t), p.text.String())
	assert.Contains(t, p.text.String(), " killed\n")
	used := p.number(t, "  used of the limit's 10000, overage 0")
	assert.Positive(t, used)
	for _, l := range levels {
		assert.Equal(t, used, p.number(t, "  counted for "+l))
	}
	p.leavesNothing(t)
}

// A signal ends the load, not the sums.
func TestInterrupted(t *testing.T) {
	p := start(t, build(t), "-n", "2", "-callers", "4", "-for", "1h", "-kill", "300ms")
	p.until(t, " killed\n")
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, p.end(t), p.text.String())
	assert.Equal(t, p.number(t, "  admitted and charged"), p.number(t, "  used of the limit's"))
	p.leavesNothing(t)
}

func TestKilledItLeavesNothing(t *testing.T) {
	p := start(t, build(t), "-n", "2", "-callers", "4", "-for", "1h", "-kill", "300ms")
	p.until(t, " killed\n")
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.end(t)
	p.leavesNothing(t)
}

// In a Postgres that is given, the run's schema goes with it, however it ends.
func TestAPostgresThatIsGiven(t *testing.T) {
	bin, dsn := build(t), pgtest.DSN(t)
	db, err := sql.Open("postgres", dsn)
	require.NoError(t, err)
	defer db.Close()
	there := func(schema string) (n int) {
		require.NoError(t, db.QueryRow(`SELECT count(*) FROM pg_namespace WHERE nspname = $1`, schema).Scan(&n))
		return n
	}
	p := start(t, bin, "-n", "2", "-callers", "4", "-for", "700ms", "-kill", "300ms", "-dsn", dsn)
	p.until(t, "callers for")
	require.NotEmpty(t, p.schema)
	assert.Equal(t, 1, there(p.schema))
	require.NoError(t, p.end(t), p.text.String())
	assert.Equal(t, 0, there(p.schema))

	p = start(t, bin, "-n", "2", "-callers", "4", "-for", "1h", "-dsn", dsn)
	p.until(t, "callers for")
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.end(t)
	p.leavesNothing(t)
	assert.Eventually(t, func() bool { return there(p.schema) == 0 }, time.Minute, 20*time.Millisecond)
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {"-callers", "1001"}, {"-for", "0s"}, {"-limit", "-1"}, {"-kill", "-1s"}, {"more"}} {
		_, err := parse(args)
		assert.Error(t, err, args)
	}
}

// Sums that do not agree are found, by a single credit or request.
func TestCheck(t *testing.T) {
	good := func() *sums {
		s := &sums{limit: 100}
		s.requests = [outcomes]int{charged: 7, cutOff: 2, refused: 5}
		s.credits = [outcomes]quota.Credits{charged: 90, cutOff: 8, refused: 20}
		s.used, s.max = 90, 100
		for i := range s.levels {
			s.levels[i] = spent{90, 9}
		}
		return s
	}
	require.NoError(t, good().check())
	for name, spoil := range map[string]func(*sums){
		"charged twice":        func(s *sums) { s.used++ },
		"lost":                 func(s *sums) { s.credits[charged]++ },
		"held":                 func(s *sums) { s.held = 1 },
		"over":                 func(s *sums) { s.max, s.limit = 89, 89 },
		"overage":              func(s *sums) { s.used, s.overage = 89, 1 },
		"another limit":        func(s *sums) { s.max = 99 },
		"an account's":         func(s *sums) { s.levels[1].credits-- },
		"a request more":       func(s *sums) { s.levels[2].requests++ },
		"a request fewer":      func(s *sums) { s.levels[0].requests-- },
		"nothing":              func(s *sums) { *s = sums{limit: 100}; s.max = 100 },
		"stranded, too little": func(s *sums) { s.used, s.held, s.stranded = 80, 9, 9 },
		"held, not stranded":   func(s *sums) { s.used, s.held, s.stranded = 81, 10, 9 },
		"unanswered, twice":    func(s *sums) { s.requests[unanswered], s.credits[unanswered], s.used = 1, 4, 95 },
	} {
		s := good()
		spoil(s)
		assert.ErrorContains(t, s.check(), "do not agree", name)
	}
	// What is stranded may have been spent, and may not.
	for _, lost := range []quota.Credits{0, 10} {
		s := good()
		s.used, s.held, s.stranded = 90-lost, 10, 10
		for i := range s.levels {
			s.levels[i].credits -= lost
		}
		assert.NoError(t, s.check())
	}
	// What was not answered may have been charged, and may not.
	for _, extra := range []quota.Credits{0, 4} {
		s := good()
		s.requests[unanswered], s.credits[unanswered] = 1, 4
		s.used += extra
		for i := range s.levels {
			s.levels[i].credits += extra
		}
		assert.NoError(t, s.check())
	}
}
