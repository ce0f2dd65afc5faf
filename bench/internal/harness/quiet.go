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

// startMeter starts a meter; pids are children whose work counts as ours.
func startMeter(pids ...int) meter {
	m := meter{pids: pids, at: time.Now()}
	m.total, m.ours = m.read()
	return m
}

func (m *meter) read() (total, ours time.Duration) {
	ours = processTime("self")
	for _, p := range m.pids {
		ours += processTime(strconv.Itoa(p))
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

// processTime is the processor time of one process, its threads included.
func processTime(pid string) time.Duration {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses may hold blanks; utime and stime are the 12th
	// and 13th fields behind it.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick
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
