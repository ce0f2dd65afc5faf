package proof

import (
	"testing"

	"github.com/keypurse/keypurse/internal/pgtest"
	kp "github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/storetest"
)

// The whole contract over pgx, as pgstore's own tests have it over lib/pq.
func TestStoreOnPgx(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	all := suites(t, dsn)
	w := direct[2]
	storetest.Run(t, func(t *testing.T) kp.Store {
		return store(t, open(t, w.driver, dsn+w.dsn), w.config(all.Take(t)))
	})
}

// The whole contract where each transaction may come to another connection of
// the server; over lib/pq, and over pgx too where KEYPURSE_PROOF_WHOLE is set.
func TestStoreThroughPooler(t *testing.T) {
	t.Parallel()
	for _, w := range pooled {
		if w.driver != "postgres" && !whole() {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			dsn := throughBouncer(t)
			all := suites(t, pgtest.DSN(t))
			storetest.Run(t, func(t *testing.T) kp.Store {
				return store(t, open(t, w.driver, dsn+w.dsn), w.config(all.Take(t)))
			})
		})
	}
}
