package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Bin is the directory of a Postgres' programs: what EnvBin says, what
// pg_config says, what is on the PATH, or the newest of the usual places.
func Bin() (string, error) {
	for _, dir := range candidates() {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", ErrNotFound
}

// Bins is every Postgres found, the one of Bin first.
func Bins() []string {
	var out []string
	for _, dir := range candidates() {
		if complete(dir) && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// Newest is the directory of a Postgres that is not that of Bin: the last of
// Bins, which is the one that internal/setup puts beside it. Empty: there is
// none.
func Newest() string {
	if all := Bins(); len(all) > 1 {
		return all[len(all)-1]
	}
	return ""
}

func candidates() []string {
	var dirs []string
	if d := os.Getenv(EnvBin); d != "" {
		dirs = append(dirs, d)
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin", "/Applications/Postgres.app/Contents/Versions/*/bin", "/opt/local/lib/postgresql*/bin",
		filepath.Join(PackageDir(), "*", "bin"),
	} {
		found, _ := filepath.Glob(pattern) // the pattern is well-formed
		slices.Sort(found)
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	return dirs
}

// PackageDir is where internal/setup puts a Postgres that no system package
// brought: readable for the user that the server runs as.
func PackageDir() string {
	if os.Geteuid() == 0 {
		return "/var/tmp/keypurse-postgres"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "keypurse-postgres")
}

func complete(dir string) bool {
	return executable(dir, "initdb") && executable(dir, "postgres")
}

func executable(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && !info.IsDir()
}
