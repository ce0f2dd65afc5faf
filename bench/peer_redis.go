package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

// Three levels, all of them or none, in one script: the best that a user of Redis
// gets. It checks no key and counts no usage.
const redisScript = `for i = 1, 3 do
  local v = redis.call('HMGET', KEYS[i], 'used', 'most')
  if tonumber(v[1] or 0) + tonumber(ARGV[1]) > tonumber(v[2] or 0) then return 0 end
end
for i = 1, 3 do redis.call('HINCRBY', KEYS[i], 'used', ARGV[1]) end
return 1`

// redisCharge is that script on a Redis that syncs every command before it
// answers.
func redisCharge(work string, shape fixture.Shape, callers int) harness.Case {
	return harness.Case{Work: work, Who: whoRedis, Callers: callers,
		Setup: func(ctx context.Context, env harness.Env) (*harness.Running, error) {
			r, err := startRedis(ctx, env, callers)
			if err != nil {
				return nil, err
			}
			shape := cut(env, shape)
			name := func(level string, n int) string { return fmt.Sprintf("%s:%d", level, n) }
			p := r.client.Pipeline()
			for level, n := range map[string]int{"org": shape.Orgs, "account": shape.Accounts, "key": shape.Keys} {
				for i := range n {
					p.HSet(ctx, name(level, i), "most", int64(1)<<50)
				}
			}
			if _, err := p.Exec(ctx); err != nil {
				return nil, errors.Join(err, r.stop())
			}
			script := redis.NewScript(redisScript)
			return &harness.Running{
				Op: func(w, i int) error {
					key := fixture.Pick(w, i, shape.Keys)
					account, org := shape.Parents(key)
					n, err := script.Run(ctx, r.client, []string{name("org", org), name("account", account), name("key", key)}, 1).Int()
					if err == nil && n != 1 {
						err = errRefused
					}
					return err
				},
				PIDs: []int{r.cmd.Process.Pid}, Close: r.stop,
			}, nil
		}}
}

type redisServer struct {
	cmd    *exec.Cmd
	life   *os.File
	dir    string // of its data
	socket string
	client *redis.Client
}

// redisGuard runs a server until its standard input ends: then this process asked
// for it, or is gone.
const redisGuard = `"$@" </dev/null >&2 & p=$!
read x
kill -KILL $p 2>/dev/null
wait $p
exit 0`

func startRedis(ctx context.Context, env harness.Env, callers int) (*redisServer, error) {
	bin, err := findRedis(ctx, env)
	if err != nil {
		return nil, err
	}
	r := &redisServer{}
	if r.dir, err = os.MkdirTemp(env.Dir, "redis-"); err != nil {
		return nil, err
	}
	// The path of a socket has about 100 bytes.
	if r.socket, err = os.MkdirTemp("/tmp", "redis-"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	in, life, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, r.remove())
	}
	sock := filepath.Join(r.socket, "s")
	r.life = life
	r.cmd = exec.Command("/bin/sh", "-c", redisGuard, "redis", bin, "--port", "0", "--unixsocket", sock, "--dir", r.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
	r.cmd.Stdin = in
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C is ours alone
	err = r.cmd.Start()
	err = errors.Join(err, in.Close())
	if err != nil {
		return nil, errors.Join(err, life.Close(), r.remove())
	}
	r.client = redis.NewClient(&redis.Options{Network: "unix", Addr: sock, PoolSize: callers, MaxActiveConns: callers, PoolTimeout: time.Minute})
	for range 500 {
		if err = r.client.Ping(ctx).Err(); err == nil {
			return r, nil
		}
		time.Sleep(20 * time.Millisecond) // another process's start: there is nothing to wait on
	}
	return nil, errors.Join(fmt.Errorf("redis does not answer: %w", err), r.stop())
}

func (r *redisServer) stop() error {
	return errors.Join(r.client.Close(), r.life.Close(), r.cmd.Wait(), r.remove())
}

func (r *redisServer) remove() error { return errors.Join(os.RemoveAll(r.dir), os.RemoveAll(r.socket)) }

// findRedis finds Redis, or installs Debian's where it can.
func findRedis(ctx context.Context, env harness.Env) (string, error) {
	bin, err := exec.LookPath("redis-server")
	if err == nil {
		return bin, nil
	}
	if env.Quick {
		return "", harness.NotRun("redis-server is not installed; a full run does that where it can")
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "", harness.NotRun("redis-server not found; install it (on Debian: apt-get install redis-server)")
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, apt, "install", "-y", "--no-install-recommends", "redis-server")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", harness.NotRun("apt-get install redis-server failed")
	}
	if bin, err = exec.LookPath("redis-server"); err != nil {
		return "", harness.NotRun("apt-get installed no redis-server")
	}
	return bin, nil
}
