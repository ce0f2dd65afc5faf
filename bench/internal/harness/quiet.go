package harness

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc (USER_HZ is 100 on every
// architecture that Go runs on).
const tick = 10 * time.Millisecond

// meter measures which share of the machine others used. Where there is no
// /proc it always answers 0: nothing counts as disturbed.
type meter struct {
	pids        []int
	total, ours time.Duration
	at          time.Time
}

// startMeter starts a meter; pids are children whose work counts as ours, with
// all that they start.
func startMeter(pids ...int) meter {
	m := meter{pids: pids, at: time.Now()}
	m.total, m.ours = m.read()
	return m
}

func (m *meter) read() (total, ours time.Duration) {
	ours = processTime("self").own
	if len(m.pids) > 0 {
		ours += treeTime(m.pids)
	}
	return machineTime(), ours
}

// foreign is the share of the machine, 0 to 1, that others used since the start.
func (m *meter) foreign() float64 {
	total, ours := m.read()
	wall := time.Since(m.at) * time.Duration(runtime.NumCPU())
	return max(0, float64((total-m.total)-(ours-m.ours))/float64(wall))
}

// machineTime is the busy time of all processors, time stolen by the
// hypervisor included.
func machineTime() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var n time.Duration
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // label, idle, iowait, guests (counted in user)
			continue
		}
		v, _ := strconv.ParseInt(f, 10, 64)
		n += time.Duration(v) * tick
	}
	return n
}

// times is what /proc says of a process: its own processor time, threads
// included, and that of its children that have ended and been waited for, with
// theirs.
type times struct {
	parent     int
	own, ended time.Duration
}

func processTime(pid string) (t times) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return t
	}
	// The name in parentheses may hold blanks; behind it are the state, the
	// parent, and as the 12th to 15th field utime, stime, cutime and cstime.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 15 {
		return t
	}
	t.parent, _ = strconv.Atoi(f[1])
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return time.Duration(n) * tick
	}
	t.own, t.ended = ticks(11)+ticks(12), ticks(13)+ticks(14)
	return t
}

// treeTime is the processor time of processes and all that they started. A
// server's processes come and go; what went is in its parent's account.
func treeTime(pids []int) (sum time.Duration) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	all := map[int]times{}
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil {
			all[pid] = processTime(n.Name())
		}
	}
	root := map[int]bool{}
	for _, p := range pids {
		root[p] = true
	}
	for pid, t := range all {
		for up := pid; up > 1; up = all[up].parent {
			if root[up] {
				sum += t.own + t.ended
				break
			}
		}
	}
	return sum
}

// waitQuiet waits until others use less than share of the machine, at most
// limit, and says how long it waited.
func waitQuiet(share float64, limit time.Duration) time.Duration {
	start := time.Now()
	for time.Since(start) < limit {
		m := startMeter()
		time.Sleep(100 * time.Millisecond)
		if m.foreign() < share {
			break
		}
	}
	return time.Since(start)
}
