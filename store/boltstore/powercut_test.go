//go:build linux && powercut

package boltstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

// A power cut is the copy of a disk's image while the writer is stopped: what
// was written and not synced lies in the memory of the kernel, and is not in it.
// It needs root, loop devices and mkfs.ext4:
//
//	go test -tags powercut -run PowerCut -v ./store/boltstore
const (
	cutsCharging = 40
	cutsCreating = 10
	cutsControl  = 6
)

type cutDisk struct{ image, dir string }

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

func mount(t *testing.T, image string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	// commit=1000: ext4 writes nothing by itself for so many seconds.
	command(t, "mount", "-o", "loop,commit=1000", image, dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil && !strings.Contains(string(out), "not mounted") {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

func newDisk(t *testing.T) cutDisk {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(48<<20))
	require.NoError(t, f.Close())
	command(t, "mkfs.ext4", "-q", "-F", image)
	return cutDisk{image, mount(t, image)}
}

// writer is a child that can be stopped.
type writer struct {
	cmd   *exec.Cmd
	out   *os.File
	rest  []byte // of a line
	ready bool
	acks  acks
}

func (d cutDisk) start(t *testing.T, env ...string) *writer {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c := &writer{cmd: exec.Command(os.Args[0], "-test.run=^$"), out: r}
	c.cmd.Env = append(append(os.Environ(), "KEYPURSE_CHILD="+filepath.Join(d.dir, "store.db"), "KEYPURSE_FROM="+c.acks.from()), env...)
	c.cmd.Stdout = w
	require.NoError(t, c.cmd.Start())
	require.NoError(t, w.Close())
	return c
}

// read takes what the child says until the instant, or until it says nothing.
func (c *writer) read(t *testing.T, until time.Time) {
	t.Helper()
	require.NoError(t, c.out.SetReadDeadline(until))
	buf := make([]byte, 64<<10)
	for {
		n, err := c.out.Read(buf)
		c.rest = append(c.rest, buf[:n]...)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the child ended: %s", c.rest)
			break
		}
	}
	end := strings.LastIndexByte(string(c.rest), '\n') + 1
	lines := bufio.NewScanner(strings.NewReader(string(c.rest[:end])))
	for lines.Scan() {
		if lines.Text() == "ready" {
			c.ready = true
			continue
		}
		c.acks.note(t, lines.Text())
	}
	c.rest = append([]byte{}, c.rest[end:]...)
}

// cut stops the child, copies the disk as a power cut would leave it, and lets
// the child go on. What it has said until then was acknowledged before.
func (c *writer) cut(t *testing.T, d cutDisk) (copied string) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	var st syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.cmd.Process.Pid, &st, syscall.WUNTRACED, nil)
		if !errors.Is(err, syscall.EINTR) {
			require.NoError(t, err)
			break
		}
	}
	require.True(t, st.Stopped())
	copied = filepath.Join(t.TempDir(), "cut")
	src, err := os.Open(d.image)
	require.NoError(t, err)
	dst, err := os.Create(copied)
	require.NoError(t, err)
	_, err = io.Copy(dst, src)
	require.NoError(t, err)
	require.NoError(t, errors.Join(src.Close(), dst.Close()))
	c.read(t, time.Now().Add(20*time.Millisecond))
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGCONT))
	return copied
}

func (c *writer) stop() {
	_ = c.cmd.Process.Kill() // it is to be killed
	_ = c.cmd.Wait()
	_ = c.out.Close() // only read
}

// lost opens what a cut left, and says how many acknowledged charges are not
// there.
func lost(t *testing.T, copied string, a acks, created bool) (n int, err error) {
	t.Helper()
	dir := mount(t, copied)
	defer func() {
		command(t, "umount", dir)
		require.NoError(t, os.Remove(copied))
	}()
	path := filepath.Join(dir, "store.db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !created {
		return 0, nil // not yet
	}
	s, err := Open(path, crashConfig)
	if err != nil {
		return 0, err
	}
	defer func() { require.NoError(t, s.Close()) }()
	if err := plantCrash(s); err != nil {
		return 0, err
	}
	for w := range workers {
		u, sum, _ := used(t, s, chain("acme", crashKey(w), much), now)
		n += max(0, a.n[w]-int(u))
		assert.LessOrEqual(t, int(u), a.n[w]+1, "charges are there twice")
		assert.Equal(t, u, sum)
		if id := crashID(w, max(1, a.n[w])); id != "" && a.n[w] > 0 && n == 0 {
			d, err := ledger(t, s).Charge(ctx, chain("acme", crashKey(w), much), quota.Charge{ID: id, Amount: 1, At: crashAt(a.n[w])})
			if err != nil {
				return n, err
			}
			assert.True(t, d.Replayed, "an acknowledged id is remembered")
		}
	}
	problems, err := s.Check(ctx)
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("check: %w", errors.Join(problems...))
	}
	return n, err
}

func TestPowerCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	acknowledged := 0
	t.Run("charging", func(t *testing.T) {
		d := newDisk(t)
		c := d.start(t)
		defer c.stop()
		for !c.ready {
			c.read(t, time.Now().Add(10*time.Millisecond))
		}
		for range cutsCharging {
			c.read(t, time.Now().Add(time.Duration(5+random.IntN(200))*time.Millisecond))
			copied := c.cut(t, d)
			n, err := lost(t, copied, c.acks, true)
			require.NoError(t, err)
			require.Zero(t, n, "acknowledged charges are lost")
		}
		for _, n := range c.acks.n {
			acknowledged += n
		}
	})
	t.Run("creating", func(t *testing.T) {
		for range cutsCreating {
			d := newDisk(t)
			c := d.start(t)
			c.read(t, time.Now().Add(time.Duration(random.IntN(40_000))*time.Microsecond))
			copied := c.cut(t, d)
			n, err := lost(t, copied, c.acks, c.ready)
			c.stop()
			require.NoError(t, err)
			require.Zero(t, n)
		}
	})
	// The control: without syncs the same cuts must lose something, or this
	// test sees nothing.
	control, broken := 0, 0
	t.Run("without syncs", func(t *testing.T) {
		d := newDisk(t)
		c := d.start(t, "KEYPURSE_NOSYNC=1")
		defer c.stop()
		for !c.ready {
			c.read(t, time.Now().Add(10*time.Millisecond))
		}
		for range cutsControl {
			c.read(t, time.Now().Add(100*time.Millisecond))
			copied := c.cut(t, d)
			n, err := lost(t, copied, c.acks, false)
			if err != nil {
				broken++
			}
			control += n
		}
	})
	t.Logf("%d cuts while charging (%d charges acknowledged) and %d while creating: none lost; without syncs %d lost and %d files broken",
		cutsCharging, acknowledged, cutsCreating, control, broken)
	if control == 0 && broken == 0 {
		// Nothing of the file may be there at all: then everything is lost.
		t.Error("without syncs nothing was lost: the cuts cut nothing")
	}
}
