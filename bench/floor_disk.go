package bench

import (
	"context"
	"errors"
	"os"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

// diskSync overwrites 4 KiB of a file and waits for the disk: the bound of
// everything durable, and the figure that tells this disk from another.
func diskSync(work string) harness.Case {
	return harness.Case{Work: work, Who: whoDisk,
		Setup: func(_ context.Context, env harness.Env) (*harness.Running, error) {
			f, err := os.CreateTemp(env.Dir, "sync-")
			if err != nil {
				return nil, err
			}
			const pages, page = 256, 4096
			if _, err := f.Write(make([]byte, pages*page)); err != nil {
				return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
			}
			b := make([]byte, page)
			return &harness.Running{
				Op: func(_, i int) error {
					if _, err := f.WriteAt(b, int64(i%pages)*page); err != nil {
						return err
					}
					return f.Sync()
				},
				Close: func() error { return errors.Join(f.Close(), os.Remove(f.Name())) },
			}, nil
		}}
}
