package saccount_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("KEYPURSE_ALERT_CHILD"); path != "" {
		os.Exit(crashChild(path))
	}
	goleak.VerifyTestMain(m)
}
