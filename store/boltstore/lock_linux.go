package boltstore

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// holder names the process that has the file, as far as the kernel tells. See
// proc(5), /proc/locks; a process of another container has no id here.
func holder(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	dev := uint64(st.Dev)
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&^0xff
	want := fmt.Sprintf("%02x:%02x:%d", major, minor, st.Ino)
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		// 1: FLOCK ADVISORY WRITE 1234 fd:01:5678 0 EOF
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != want || f[4] == "-1" || f[4] == "0" {
			continue
		}
		comm, err := os.ReadFile("/proc/" + f[4] + "/comm")
		if err != nil {
			return ": process " + f[4]
		}
		return fmt.Sprintf(": process %s (%q)", f[4], bytes.TrimSpace(comm))
	}
	return ""
}
