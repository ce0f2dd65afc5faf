// Package browser finds what tests in a real browser need: Chromium, and
// axe-core, which looks for what keeps people from using a page. internal/setup
// installs both.
package browser

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/keypurse/keypurse/internal/need"
)

// EnvPath names the program of a Chromium, before all others.
const EnvPath = "KEYPURSE_TEST_CHROMIUM"

// AxeVersion is the axe-core that pages are held to. A newer one may know more
// that is wrong: raise it with what it finds mended.
const AxeVersion = "4.14.1"

// Errors of what is not there.
const (
	ErrNoChromium = need.Missing("browser: no Chromium was found; type: go run ./internal/setup (as root it installs Debian's), or set " + EnvPath + " to its path")
	ErrNoAxe      = need.Missing("browser: axe-core " + AxeVersion + " was not found; type: go run ./internal/setup (it takes npm)")
)

// Find is the path of Chromium's program, or ErrNoChromium.
func Find() (string, error) {
	names := []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	}
	if p := os.Getenv(EnvPath); p != "" {
		names = []string{p}
	}
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", ErrNoChromium
}

// Axe is the path of axe-core's script, or ErrNoAxe.
func Axe() (string, error) {
	p := AxePath()
	if _, err := os.Stat(p); err != nil {
		return "", ErrNoAxe
	}
	return p, nil
}

// AxePath is where internal/setup puts it.
func AxePath() string { return filepath.Join(Cache(), "axe-core-"+AxeVersion+".js") }

// Cache is the directory of what these tests take from elsewhere and leave:
// nothing that could not be made again.
func Cache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "keypurse-browser")
}
