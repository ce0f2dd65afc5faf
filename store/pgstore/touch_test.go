package pgstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
)

// To note the uses of many keys looks each up, also where the server has no
// statistics yet, as of keys that were made just now.
func TestTouchLooksEachKeyUp(t *testing.T) {
	t.Parallel()
	s := openAt(t, pgtest.DSN(t), Config{Schema: "touching", Timeout: patient})
	const all, n = 15_000, 100
	for _, x := range []struct {
		kind   int
		prefix string
		n      int
	}{{2, "a", 5000}, {4, "k", all}, {5, "m", n}} {
		_, err := s.db.Exec(`INSERT INTO touching.records SELECT 'acme', $1, $2 || lpad(i::text, 8, '0'), 'a' || lpad((1 + i % 5000)::text, 8, '0'), $2 || i, false, 1, NULL, NULL, NULL, 1, '' FROM generate_series(1, $3::int) i`, x.kind, x.prefix, x.n)
		require.NoError(t, err)
		_, err = s.db.Exec(`VACUUM FULL touching.records`) // which counts rows, and nothing else
		require.NoError(t, err)
	}
	var org, key, addr texts
	var at ints
	for i := range n {
		org.add("acme")
		key.add(fmt.Sprintf("%c%08d", "km"[i%2], 1+i))
		at.add(int64(i + 1))
		addr.add("")
	}
	p := explainPlan(t, s, s.sql.touch, org.String(), key.String(), at.String(), addr.String())
	_, how := p.scanned()
	assert.NotContains(t, how, "Seq Scan ")
	assert.LessOrEqual(t, p.Pages, float64(n*20), "%v", how)
	var noted int
	require.NoError(t, s.db.QueryRow(`SELECT count(*) FROM touching.uses WHERE at > 0`).Scan(&noted))
	assert.Equal(t, n, noted, "those of keys and of management keys")
}
