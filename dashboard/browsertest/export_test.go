package browsertest

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/saccount"
)

// An export arrives as a file, says how far it is, and has no formula in it.
func TestExport(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"Production Worker", `=HYPERLINK("http://evil.example")`, "+1", "@SUM(1)"} {
		_, err := h.svc.CreateAccount(t.Context(), "setup", "acme", saccount.AccountSpec{Name: name})
		require.NoError(t, err)
	}
	vera, dir := h.browser(t, "vera"), t.TempDir()
	vera.downloads(dir)
	vera.open("orgs/acme/accounts")
	vera.do(chromedp.Click(named("Export as CSV")))
	vera.sees("Done: 4 rows.")
	var rows [][]string
	require.Eventually(t, func() bool {
		f, err := os.Open(filepath.Join(dir, "service-accounts.csv"))
		if err != nil {
			return false
		}
		defer f.Close()
		rows, err = csv.NewReader(f).ReadAll()
		return err == nil && len(rows) == 5
	}, deadline, 10*time.Millisecond)
	for _, row := range rows {
		for _, cell := range row {
			assert.NotRegexp(t, `^[=+\-@]`, cell)
		}
	}
}
