package pgstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// Usage of a range looks at about as much as the range has, however long the
// past is, and of several subjects at each page of the table once.
func TestUsageGoesByTheRange(t *testing.T) {
	t.Parallel()
	s := openAt(t, pgtest.DSN(t), Config{Schema: "usage_range", Timeout: patient})
	// Written as time goes by, each quarter all subjects, one in ten refused too;
	// the first had years to itself.
	const all, past, asked = 200, 1000, 100
	for _, text := range []string{
		`INSERT INTO usage_range.counters SELECT 'acme', 'account:0000', 0, series, q * 900000000::bigint, 1, 0, 0, 1, 0, 0, ''
FROM generate_series(-60000, -1) q, unnest(ARRAY['', '!limit']) series`,
		`INSERT INTO usage_range.counters SELECT 'acme', 'account:' || lpad(i::text, 4, '0'), 0, series, q * 900000000::bigint, 1, 0, 0, 1, 0, 0, ''
FROM generate_series(0, 999) q, generate_series(0, 199) i, unnest(ARRAY['', '!limit']) series WHERE series = '' OR (i + q) % 10 = 0 ORDER BY q, i`,
		`VACUUM ANALYZE usage_range.counters`,
	} {
		_, err := s.db.Exec(text)
		require.NoError(t, err)
	}
	r := usage.Range{Org: "acme", From: (past - asked) * quarter, To: past * quarter, Edges: []int64{(past - asked) * quarter, (past - 10) * quarter, past * quarter}}
	for _, x := range []struct {
		subjects int
		folded   bool
		most     float64 // pages
	}{{1, true, 150}, {1, false, 150}, {25, true, 1000}, {25, false, 3500}, {all, true, 27000}} {
		var part []quota.Subject
		for i := range x.subjects {
			part = append(part, quota.NewSubject(quota.KindAccount, fmt.Sprintf("%04d", i)))
		}
		asks := r
		if !x.folded {
			asks.Edges = nil
		}
		text, args, _ := s.usageText(&asks, part)
		p := explainPlan(t, s, text, args...)
		_, how := p.scanned()
		about := fmt.Sprintf("%+v: %v pages by %v", x, p.Pages, how)
		t.Log(about)
		assert.NotContains(t, how, "Seq Scan ", about)
		assert.LessOrEqual(t, p.Pages, x.most, about)
		sums := map[quota.Subject]int64{}
		asks.Subjects = part
		require.NoError(t, s.Usage(t.Context(), asks, func(u usage.Row) error { sums[u.Subject] += u.Requests; return nil }))
		assert.Len(t, sums, x.subjects)
		for sub, n := range sums {
			assert.EqualValues(t, asked+asked/10, n, sub)
		}
	}
}
