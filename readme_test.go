package keypurse_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// What the README shows compiles.
func TestReadmeCompiles(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := goBlock.FindAllSubmatch(text, -1)
	require.NotEmpty(t, blocks)
	for i, b := range blocks {
		dir, err := os.MkdirTemp(".", "readme_test_") // inside the module, so that its imports are found
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), b[1], 0o600))
		out, err := exec.CommandContext(t.Context(), "go", "vet", "./"+dir).CombinedOutput()
		require.NoError(t, err, "block %s:\n%s", strconv.Itoa(i+1), out)
	}
}
