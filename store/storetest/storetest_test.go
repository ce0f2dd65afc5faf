package storetest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/memstore"
	"github.com/keypurse/keypurse/store/storetest"
)

// kept is a memstore that outlives its Close, as a file would.
type kept struct{ *memstore.Store }

func (kept) Close() error { return nil }

func TestRunPersistentPassesWhatKeeps(t *testing.T) {
	dirs := map[string]*memstore.Store{}
	storetest.RunPersistent(t, func(_ *testing.T, dir string) store.Store {
		if dirs[dir] == nil {
			dirs[dir] = memstore.New()
		}
		return kept{dirs[dir]}
	})
}

const brokenEnv = "KEYPURSE_STORETEST_BROKEN"

// A suite that cannot fail proves nothing: each of these stores breaks one
// rule, and the suite, run on it in a process of its own, says which.
func TestSuiteCatchesBrokenStores(t *testing.T) {
	if name := os.Getenv(brokenEnv); name != "" {
		for _, b := range brokenStores() {
			if b.name != name {
				continue
			}
			if b.group == "Persistent" {
				storetest.RunPersistent(t, func(*testing.T, string) store.Store { return b.open() })
			} else {
				storetest.Run(t, func(*testing.T) store.Store { return b.open() })
			}
		}
		return
	}
	for _, b := range brokenStores() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuiteCatchesBrokenStores$/^"+b.group+"$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+b.name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the suite passed a store that %s:\n%s", b.name, out)
			failed := "--- FAIL: TestSuiteCatchesBrokenStores/" + b.group + "/" + strings.ReplaceAll(b.rule, " ", "_")
			assert.Contains(t, string(out), failed)
			assert.Contains(t, string(out), "rule: "+b.rule, "a failure prints its rule")
			assert.Contains(t, string(out), "why:  ", "a failure prints why its rule exists")
		})
	}
}

// The suite itself passes what keeps the contract, reached through a wrapper
// that does nothing: what the broken ones show is their own.
func TestSuitePassesSoundStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return wrapper{memstore.New()} })
}
