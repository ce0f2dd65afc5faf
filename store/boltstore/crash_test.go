package boltstore

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// acks is what the parent knows of the children's charges.
type acks struct {
	n     [workers]int // the last that was acknowledged
	lives int
}

func (a *acks) from() string { return strings.Trim(fmt.Sprint(a.n), "[]") }

// TestCrash kills a child that charges with SIGKILL at random moments: no
// acknowledged charge is lost, none is there twice, and the file opens at once.
// KEYPURSE_CRASH_KILLS says how often, 50 unless it is set.
func TestCrash(t *testing.T) {
	kills := 50
	if v := os.Getenv("KEYPURSE_CRASH_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		require.NoError(t, err)
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	path := filepath.Join(t.TempDir(), "store.db")
	var a acks
	var slowest time.Duration
	for range kills {
		a.life(t, path, time.Duration(5+random.IntN(196))*time.Millisecond, a.lives%8 == 7)
		began := time.Now()
		s, err := Open(path, crashConfig)
		slowest = max(slowest, time.Since(began))
		require.NoError(t, err)
		require.NoError(t, plantCrash(s)) // where the first was killed before it did
		a.verify(t, s)
		if a.lives%2 == 0 {
			require.NoError(t, s.Close())
		} else {
			abandon(t, s)
		}
	}
	s := openAt(t, path, Config{})
	problems, err := s.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems)
	t.Logf("%d kills, charges acknowledged %v, slowest opening %v", kills, a.n, slowest)
}

// life is one child from its start to its kill, after some time of charging, or
// after some time from its start.
func (a *acks) life(t *testing.T, path string, after time.Duration, early bool) {
	t.Helper()
	a.lives++
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "KEYPURSE_CHILD="+path, "KEYPURSE_FROM="+a.from())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := func() { _ = cmd.Process.Kill() } // it may have ended by itself: then its last line says why
	var timer *time.Timer
	if early {
		timer = time.AfterFunc(after, kill)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			if timer == nil {
				timer = time.AfterFunc(after, kill)
			}
			continue
		}
		a.note(t, lines.Text())
	}
	if timer != nil {
		timer.Stop()
	}
	_ = cmd.Wait() // killed
}

func (a *acks) note(t *testing.T, line string) {
	t.Helper()
	var w, n int
	_, err := fmt.Sscanf(line, "%d %d", &w, &n)
	require.NoError(t, err, "the child says %q", line)
	require.Equal(t, a.n[w]+1, n, line)
	a.n[w] = n
}

// verify retries what was on its way, as a caller would, and counts.
func (a *acks) verify(t *testing.T, s *Store) {
	t.Helper()
	l := ledger(t, s)
	for w := range workers {
		c := chain("acme", crashKey(w), much)
		if crashID(w, 1) != "" {
			a.n[w]++ // on its way, or not yet: with an id it does not matter
			charge(t, l, c, crashID(w, a.n[w]), 1, crashAt(a.n[w]))
			d, err := l.Charge(ctx, c, quota.Charge{ID: crashID(w, 1), Amount: 1, At: now})
			require.NoError(t, err)
			require.True(t, d.Replayed, "the first id of all")
			u, sum, requests := used(t, s, c, now)
			require.Equal(t, quota.Credits(a.n[w]), u, "worker %d: charges with ids", w)
			require.Equal(t, quota.Credits(a.n[w]), sum)
			require.Equal(t, int64(a.n[w]), requests)
			continue
		}
		u, sum, _ := used(t, s, c, now)
		require.GreaterOrEqual(t, u, quota.Credits(a.n[w]), "worker %d: acknowledged charges are lost", w)
		require.LessOrEqual(t, u, quota.Credits(a.n[w]+1), "worker %d: charges are there twice", w)
		require.Equal(t, u, sum)
		a.n[w] = int(u)
	}
	require.NoError(t, l.Close())
}
