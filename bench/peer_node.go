package bench

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
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

// betterAuth is better-auth's api-key plugin on a durable SQLite file.
func betterAuth(work string, callers, keys int) harness.Case {
	return harness.Case{Work: work, Who: whoBetterAuth, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			dir, err := os.MkdirTemp(env.Dir, "node-")
			if err != nil {
				return nil, err
			}
			stop := func() error { return os.RemoveAll(dir) }
			return inNode(ctx, env, callers, nil, stop, "better-auth-sqlite", filepath.Join(dir, "keys.db"), strconv.Itoa(keys))
		}}
}

// nodeOnPostgres is a peer that keeps its counters in Postgres: "better-auth-pg",
// or "limiter-pg", rate-limiter-flexible with one level and without keys.
func nodeOnPostgres(pg *cluster, work, who, what string, callers, keys int) harness.Case {
	return harness.Case{Work: work, Who: who, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			d, err := pg.open(ctx)
			if err != nil {
				return nil, err
			}
			return inNode(ctx, env, callers, d.pids(), d.close, what, d.dir, d.name, strconv.Itoa(env.Size(keys)), strconv.Itoa(callers))
		}}
}

// inNode is a long-lived Node process that runs a round when it is told to. stop
// releases what it works on.
func inNode(ctx context.Context, env harness.Env, callers int, pids []int, stop func() error, args ...string) (*harness.Running, error) {
	dir, err := installNode(ctx, env)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	cmd := exec.CommandContext(ctx, "node", append([]string{"bench.mjs"}, args...)...)
	cmd.Dir = dir
	p, err := startProcess(cmd, nil)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &harness.Running{
		PIDs:  append(pids, p.cmd.Process.Pid),
		Close: func() error { return errors.Join(p.close(), stop()) },
		Round: func(_ context.Context, d time.Duration) (harness.Round, error) {
			var a struct{ Calls, MS, P50, P99 float64 }
			if err := p.ask(map[string]any{"ms": d.Milliseconds(), "callers": callers}, &a); err != nil {
				return harness.Round{}, err
			}
			const nanos = float64(time.Millisecond)
			return harness.Round{Rate: a.Calls / a.MS * 1e3, P50: a.P50 * nanos, P99: a.P99 * nanos}, nil
		},
	}, nil
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
