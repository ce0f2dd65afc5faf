// Package keypurse_test holds the tests of the module as a whole.
package keypurse_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/keypurse/keypurse"

// may says which packages of ours, and which modules of others, a package may
// import, besides the standard library.
var may = map[string][]string{
	"apikey":                {},
	"quota":                 {},
	"usage":                 {"quota"},
	"alert":                 {"quota", "code.dny.dev/ssrf", "github.com/standard-webhooks/standard-webhooks"},
	"saccount":              {"alert", "apikey", "quota", "usage", "golang.org/x/time"},
	"saccount/saccounttest": {"apikey", "quota", "saccount", "store/memstore"},
	"store":                 {"saccount"},
	"store/memstore":        {"alert", "quota", "usage", "saccount", "store"},
	"store/boltstore":       {"alert", "quota", "usage", "saccount", "store", "go.etcd.io/bbolt"},
	"store/pgstore":         {"alert", "quota", "usage", "saccount", "store", "github.com/jmoiron/sqlx", "github.com/lib/pq"},
	"store/storetest":       {"alert", "apikey", "quota", "usage", "saccount", "store"},
	"internal/web":          {"apikey", "quota", "saccount"},
	"leak":                  {"internal/web", "saccount", "golang.org/x/time"},
	"middleware":            {"apikey", "quota", "usage", "saccount", "internal/web"},
	"dashboard":             {"apikey", "quota", "usage", "alert", "saccount", "internal/web"},
}

func TestWhoImportsWhom(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	require.NoError(t, err)
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, ruled := may[name]
		if !ruled {
			continue
		}
		seen++
		for _, imp := range p.Imports {
			ours, isOurs := strings.CutPrefix(imp, module+"/")
			if !isOurs && !strings.Contains(strings.Split(imp, "/")[0], ".") {
				assert.NotContains(t, []string{"log", "math/rand"}, imp, "%s imports %s", name, imp)
				continue
			}
			if !isOurs {
				ours = imp
			}
			ok := slices.ContainsFunc(allowed, func(a string) bool { return ours == a || strings.HasPrefix(ours, a+"/") && strings.Contains(a, ".") })
			assert.True(t, ok, "%s must not import %s: see ARCHITECTURE.md", name, imp)
		}
	}
	assert.Equal(t, len(may), seen, "a package of the list is gone, or has no Go files")
}
