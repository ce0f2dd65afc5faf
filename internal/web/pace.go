package web

import (
	"context"
	"time"
)

// Pace waits until a multiple of pace has gone by since begun, or ctx ends, so
// that the time of an answer does not tell what was done for it.
func Pace(ctx context.Context, begun time.Time, pace time.Duration) {
	wait := time.NewTimer(pace - time.Since(begun)%pace)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}
