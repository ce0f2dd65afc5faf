package bench

import (
	"bufio"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

//go:embed node/package.json node/bench.mjs
var nodeFiles embed.FS

// installTime bounds npm, which may have to compile better-sqlite3.
const installTime = 10 * time.Minute

// betterAuth is better-auth's api-key plugin on a durable SQLite file: a
// long-lived Node process that runs a round when it is told to.
func betterAuth(work string, callers, keys int) harness.Case {
	return harness.Case{Work: work, Who: whoBetterAuth, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			dir, err := installNode(ctx, env)
			if err != nil {
				return nil, err
			}
			db, err := os.MkdirTemp(env.Dir, "node-")
			if err != nil {
				return nil, err
			}
			p, err := startNode(ctx, dir, "bench.mjs", filepath.Join(db, "keys.db"), strconv.Itoa(keys))
			if err != nil {
				return nil, errors.Join(err, os.RemoveAll(db))
			}
			return &harness.Running{
				PID:   p.cmd.Process.Pid,
				Close: func() error { return errors.Join(p.close(), os.RemoveAll(db)) },
				Round: func(_ context.Context, d time.Duration) (harness.Round, error) {
					var a struct{ Calls, MS, P50, P99 float64 }
					if err := p.ask(map[string]any{"ms": d.Milliseconds(), "callers": callers}, &a); err != nil {
						return harness.Round{}, err
					}
					const nanos = float64(time.Millisecond)
					return harness.Round{Rate: a.Calls / a.MS * 1e3, P50: a.P50 * nanos, P99: a.P99 * nanos}, nil
				},
			}, nil
		}}
}

// installNode puts the peer's packages into the user's cache, once for every
// package.json, and answers with their directory.
func installNode(ctx context.Context, env harness.Env) (string, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", harness.NotRun("node not found")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", harness.NotRun("npm not found")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", harness.NotRun(err.Error())
	}
	manifest, err := nodeFiles.ReadFile("node/package.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(manifest)
	dir := filepath.Join(cache, "keypurse-bench", "node-"+hex.EncodeToString(sum[:6]))
	installed := filepath.Join(dir, "installed")
	_, err = os.Stat(installed)
	if err != nil && env.Quick {
		return "", harness.NotRun("its packages are not installed yet; a full run does that")
	}
	if e := os.MkdirAll(dir, 0o700); e != nil {
		return "", e
	}
	for _, name := range []string{"package.json", "bench.mjs"} {
		b, e := nodeFiles.ReadFile("node/" + name)
		if e != nil {
			return "", e
		}
		if e := os.WriteFile(filepath.Join(dir, name), b, 0o600); e != nil {
			return "", e
		}
	}
	if err == nil {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "install", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", harness.NotRun("npm install failed")
	}
	return dir, os.WriteFile(installed, nil, 0o600)
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// process is a child that answers lines of JSON with lines of JSON.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr lastBytes
}

func startNode(ctx context.Context, dir string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, "node", args...)}
	p.cmd.Dir, p.cmd.Stderr = dir, &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var hello struct{ Ready bool }
	if err := p.read(&hello); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *process) ask(question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("node: %w: %s", err, p.stderr)
	}
	return p.read(answer)
}

func (p *process) read(answer any) error {
	if !p.out.Scan() {
		return fmt.Errorf("node ended: %w: %s", errors.Join(p.out.Err(), io.ErrUnexpectedEOF), p.stderr)
	}
	return json.Unmarshal(p.out.Bytes(), answer)
}

// close ends the child by ending its input.
func (p *process) close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// lastBytes keeps the end of what is written to it.
type lastBytes []byte

func (l *lastBytes) Write(b []byte) (int, error) {
	*l = tail(append(*l, b...), 500)
	return len(b), nil
}
