package pgstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/saccount"
)

// plan is a node of what EXPLAIN says.
type plan struct {
	Type    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Pages   float64 `json:"Shared Hit Blocks"` // with those of the nodes below it
	Read    float64 `json:"Shared Read Blocks"`
	Plans   []plan
}

// scanned is how many rows were looked at in tables and indexes, and how.
func (p *plan) scanned() (rows float64, how []string) {
	if p.Index != "" || p.Type == "Seq Scan" {
		rows, how = (p.Rows+p.Removed)*p.Loops, append(how, p.Type+" "+p.Index)
	}
	for i := range p.Plans {
		r, h := p.Plans[i].scanned()
		rows, how = rows+r, append(how, h...)
	}
	return rows, how
}

// explainPlan runs a question and says how.
func explainPlan(t *testing.T, s *Store, text string, args ...any) *plan {
	t.Helper()
	var out string
	require.NoError(t, s.db.QueryRow("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+text, args...).Scan(&out))
	var plans []struct{ Plan plan }
	require.NoError(t, json.Unmarshal([]byte(out), &plans))
	p := plans[0].Plan
	p.Pages += p.Read
	return &p
}

// explain runs a question and says how many rows it looked at, and how.
func explain(t *testing.T, s *Store, text string, args ...any) (rows float64, how []string) {
	t.Helper()
	return explainPlan(t, s, text, args...).scanned()
}

// large opens a store with many accounts and keys in one organization.
func large(t *testing.T, schema string) *Store {
	t.Helper()
	s := openAt(t, pgtest.DSN(t), Config{Schema: schema, Timeout: patient})
	const accounts, keysEach = 20_000, 5
	for _, x := range []struct {
		text string
		n    int
	}{
		{`INSERT INTO $s.records SELECT 'acme', 2, lpad(i::text, 8, '0'), 'acme', 'account ' || (i * 7919 % $1), i % 1000 = 17, 1, CASE WHEN i % 1000 = 18 THEN 1 END, NULL, NULL, 1, ''
FROM generate_series(1, $1::int) i`, accounts},
		{`INSERT INTO $s.records SELECT 'acme', 4, 'k' || lpad(i::text, 8, '0'), lpad((1 + i % ($1 / 5))::text, 8, '0'), 'key ' || i, i % 1000 = 17, 1, CASE WHEN i % 1000 = 18 THEN 1 END, NULL, NULL, 1, ''
FROM generate_series(1, $1::int) i`, accounts * keysEach},
		{`INSERT INTO $s.uses SELECT 'k' || lpad(i::text, 8, '0'), i, '' FROM generate_series(1, $1::int) i`, accounts * keysEach},
	} {
		_, err := s.db.Exec(strings.ReplaceAll(x.text, "$s", schema), x.n)
		require.NoError(t, err)
	}
	_, err := s.db.Exec(strings.ReplaceAll(`VACUUM ANALYZE $s.records, $s.uses`, "$s", schema))
	require.NoError(t, err)
	return s
}

// A page looks at about as many records as it has, wherever it is and however
// many there are.
func TestListsGoByAnIndex(t *testing.T) {
	t.Parallel()
	s := large(t, "lists")
	account, key := saccount.KindAccount, saccount.KindKey
	off, gone := []saccount.Status{saccount.StatusDisabled}, []saccount.Status{saccount.StatusDeleted}
	for _, q := range []saccount.ListQuery{
		{Kind: account},
		{Kind: account, After: "00018000"},
		{Kind: account, Statuses: []saccount.Status{saccount.StatusActive}, After: "00010000"},
		{Kind: account, ByName: true},
		{Kind: account, ByName: true, After: "account 777"},
		{Kind: account, ByName: true, NamePrefix: "account 77", After: "account 7777"},
		{Kind: account, ByName: true, Statuses: off},
		{Kind: account, NamePrefix: "account 1999"},
		{Kind: account, NamePrefix: "account", After: "00015000"},
		{Kind: account, NamePrefix: "nobody"},
		{Kind: account, Statuses: off},
		{Kind: account, Statuses: off, After: "00015000"},
		{Kind: account, Statuses: gone},
		{Kind: key},
		{Kind: key, After: "k00090000"},
		{Kind: key, Statuses: off, After: "k00090000"},
		{Kind: key, Statuses: gone},
		{Kind: key, Parent: "00000099"},
		{Kind: key, Parent: "00000099", ByName: true},
	} {
		q.Org, q.Limit = "acme", 25
		text, args, err := s.listText(&q, q.After, q.Limit+1)
		require.NoError(t, err)
		rows, how := explain(t, s, text, args...)
		about := fmt.Sprintf("%+v: %v rows by %v", q, rows, how)
		assert.NotContains(t, how, "Seq Scan ", about)
		assert.LessOrEqual(t, rows, 200.0, about)
	}
}

// Whether the ids of new keys are free is found without going through the records.
func TestNewIDsGoByAnIndex(t *testing.T) {
	t.Parallel()
	s := large(t, "new_ids")
	rows, how := explain(t, s, s.sql.keyIDs, `{k00000001,k00099999,nobody}`)
	assert.NotContains(t, how, "Seq Scan ")
	assert.LessOrEqual(t, rows, 10.0, "%v", how)
}
