package bench

import (
	"context"
	"errors"
	"net/http"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
	"github.com/keypurse/keypurse/middleware"
)

// guarded is the bare handler behind keypurse's middleware: the key is checked
// and three levels are charged, usage included.
func guarded(ctx context.Context, _ harness.Env, shape fixture.Shape) (http.Handler, []string, func() error, error) {
	s, err := inMemory(ctx, harness.Env{}, shape, true)
	if err != nil {
		return nil, nil, nil, err
	}
	guard, err := middleware.New(s.Service, middleware.Config{Cost: middleware.Fixed(1)})
	if err != nil {
		return nil, nil, nil, errors.Join(err, s.Close())
	}
	return guard(bare), s.tokens, s.Close, nil
}
