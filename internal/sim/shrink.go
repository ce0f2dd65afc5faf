package sim

import (
	"context"
	"errors"
	"maps"
	"time"
)

// Shrink leaves out as many steps of a failing run as it can within the time
// given, such that some violation stays. It gives that violation and how many
// steps were left out; nil where none was found again.
func Shrink(ctx context.Context, cfg Config, v *Violation, most time.Duration) (found *Violation, skipped int) {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	cfg.Trace, cfg.Progress = false, nil
	// Only the world that failed, only up to its failure, and checked so often
	// that it is seen early.
	if cfg.World == 0 {
		cfg.World = 50_000
	}
	from := v.Step / cfg.World * cfg.World
	cfg.Steps, cfg.Skip = v.Step+1, maps.Clone(cfg.Skip)
	if cfg.Skip == nil {
		cfg.Skip = map[int]bool{}
	}
	for i := range from {
		cfg.Skip[i] = true
	}
	try := func() *Violation {
		_, err := Run(ctx, cfg)
		var x *Violation
		if errors.As(err, &x); ctx.Err() != nil {
			return nil // what the end of the time looks like is no violation
		}
		return x
	}
	if found = try(); found == nil {
		return nil, 0
	}
	for size := max(1, (found.Step-from)/2); size >= 1; size /= 2 {
		for at := found.Step - size; at > from-size && ctx.Err() == nil; at -= size {
			before := maps.Clone(cfg.Skip)
			for i := max(from, at); i < at+size; i++ {
				cfg.Skip[i] = true
			}
			if x := try(); x != nil {
				found, cfg.Steps = x, x.Step+1
				continue
			}
			cfg.Skip = before
		}
	}
	for i := range found.Step {
		if cfg.Skip[i] {
			skipped++
		}
	}
	return found, skipped
}
