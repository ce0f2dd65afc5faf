package apitest

import (
	"bytes"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/apiworld"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// config asks the generator for a client alone.
const config = `generator:
  features:
    disable_all: true
    enable: [paths/client, client/request/validation]
`

// A client that ogen (https://ogen.dev) makes of the document, in a module of
// its own, compiles and does what a service of another make would do.
func TestGeneratedClient(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a generated client")
	}
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return b
	}
	write("openapi.json", document(t))
	write("ogen.yml", []byte(config))
	run := func(in string, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = in
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			text := errs.String()
			t.Fatalf("%s %v: %v\n%s", name, args, err, text[:min(len(text), 4000)])
		}
		return out.String()
	}
	run("", "go", "tool", "ogen", "--target", filepath.Join(dir, "client"), "--package", "client", "--clean", "--config", filepath.Join(dir, "ogen.yml"), filepath.Join(dir, "openapi.json"))

	// The same versions as here, and nothing of keypurse.
	var mod []string
	for line := range strings.Lines(string(read("go.mod"))) {
		if !strings.Contains(line, "keypurse/keypurse ") && !strings.HasPrefix(line, "module ") {
			mod = append(mod, line)
		}
	}
	write("go.mod", []byte("module example.com/billing\n"+strings.Join(mod, "")))
	write("go.sum", read("go.sum"))
	write("main.go", read("testdata/billing.go.txt"))

	w := apiworld.New(t)
	srv := httptest.NewServer(handler(t, w))
	defer srv.Close()
	out := run(dir, "go", "run", "-mod=mod", ".", srv.URL+"/api/v1", w.HostToken)
	assert.Equal(t, `renamed to Nightly Export
shown once: true
replayed without it: true
allowed: true, 60.5 left
refused: 402 limit_exceeded
late: 412 stale
used 39.5 in January
`, out)
	p, err := w.Service.ListAccounts(t.Context(), "acme", saccount.Filter{NamePrefix: "Nightly"})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	assert.Equal(t, 100*quota.Credit, p.Items[0].Limits[0].Max)
}
