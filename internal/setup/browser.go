package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/keypurse/keypurse/internal/browser"
)

func chromium(out io.Writer) {
	if path, err := browser.Find(); err == nil {
		fmt.Fprintln(out, "setup: Chromium:", path)
		return
	}
	err := apt("chromium")
	if err == nil {
		if _, err = browser.Find(); err == nil {
			fmt.Fprintln(out, "setup: Chromium: installed by apt-get")
			return
		}
	}
	fmt.Fprintf(out, "setup: Chromium could not be installed (%v).\nInstall it (on Debian: apt-get install chromium), or set %s to its path; until then the tests that need it are skipped.\n", err, browser.EnvPath)
}

// axe puts axe-core (https://github.com/dequelabs/axe-core) into the user's
// cache directory.
func axe(out io.Writer) {
	if path, err := browser.Axe(); err == nil {
		fmt.Fprintln(out, "setup: axe-core:", path)
		return
	}
	tmp, _, err := unpack(browser.Cache(), "axe-core@"+browser.AxeVersion)
	if err == nil {
		defer os.RemoveAll(tmp)
		if err = os.Rename(filepath.Join(tmp, "package", "axe.min.js"), browser.AxePath()); err == nil {
			fmt.Fprintln(out, "setup: axe-core: installed by npm")
			return
		}
	}
	fmt.Fprintf(out, "setup: axe-core could not be had from npm (%v): until then the tests that need it are skipped.\n", err)
}
