package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine describes where a run took place, a row a fact. What the system does
// not tell is left out.
func Machine() string {
	var b strings.Builder
	row := func(what, is string) {
		if is != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", what, is)
		}
	}
	row("processor", fmt.Sprintf("%d x %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name")))
	row("memory", field("/proc/meminfo", "MemTotal"))
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	row("system", strings.TrimSpace(runtime.GOOS+"/"+runtime.GOARCH+" "+string(kernel)))
	row("Go", runtime.Version())
	return b.String()
}

// field is the value of the first "name : value" line of a file.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
