package usage_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// FuzzMerge makes rows and edges of bytes and compares Merge with sums of a plain
// kind: nothing is lost, nothing counted twice, and every row stays between its
// edges.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{3, 1, 2, 250}, []byte{1, 0, 2, 1, 5, 9, 200, 3})
	f.Add([]byte{1}, []byte{0, 0, 0, 0})
	f.Add([]byte{99, 99}, []byte{0, 0, 7, 1, 0, 0, 9, 2, 0, 0, 8, 4, 0, 0, 150, 8, 1, 0, 3, 1, 1, 0, 4, 1})
	f.Fuzz(func(t *testing.T, steps, cells []byte) {
		r := usage.Range{Org: "acme", Subjects: []quota.Subject{web}, Edges: []int64{0}}
		for _, s := range steps {
			r.Edges = append(r.Edges, r.Edges[len(r.Edges)-1]+1+int64(s))
		}
		if len(r.Edges) < 2 {
			return
		}
		r.To = r.Edges[len(r.Edges)-1]
		require.NoError(t, r.Check())
		type place struct {
			point  int
			day    bool
			reason quota.Reason
		}
		between := func(at int64) (i int) {
			for r.Edges[i+1] <= at {
				i++
			}
			return i
		}
		want, last := map[place]usage.Row{}, map[place]int64{}
		var rows []usage.Row
		for i := 0; i+3 < len(cells); i += 4 {
			row := usage.Row{
				Subject: web, Day: cells[i]&1 == 1, Reason: [...]quota.Reason{"", "limit", "rate"}[cells[i]%3],
				Start: (int64(cells[i+1])<<8 | int64(cells[i+2])) % r.To, Credits: quota.Credits(cells[i+3]), Requests: 1,
			}
			rows = append(rows, row)
			p := place{between(row.Start), row.Day, row.Reason}
			sum := want[p]
			sum.Credits += row.Credits
			sum.Requests++
			want[p], last[p] = sum, max(last[p], row.Start)
		}
		got, err := r.Merge(rows)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for _, row := range got {
			p := place{between(row.Start), row.Day, row.Reason}
			assert.Equal(t, want[p].Credits, row.Credits)
			assert.Equal(t, want[p].Requests, row.Requests)
			assert.Equal(t, last[p], row.Start, "the greatest start")
		}
	})
}
