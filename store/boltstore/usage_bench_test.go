package boltstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// BenchmarkUsage reads a month of hours of 25 accounts by day, as a page of a
// list does.
func BenchmarkUsage(b *testing.B) {
	s := openNew(b, Config{NoSyncForTests: true})
	start := quota.Micros(now) / (24 * 3600e6) * (24 * 3600e6)
	r := usage.Range{Org: "acme", From: start, To: start + 30*24*3600e6}
	for d := range 31 {
		r.Edges = append(r.Edges, start+int64(d)*24*3600e6)
	}
	for a := range 25 {
		r.Subjects = append(r.Subjects, quota.NewSubject(quota.KindAccount, fmt.Sprint("a", a)))
	}
	for h := range 30 * 24 {
		at := start + int64(h)*3600e6
		var ops []*quota.Op
		for _, sub := range r.Subjects {
			ops = append(ops, &quota.Op{Verb: quota.VerbCharge, Org: "acme", At: at, Amount: 5, Levels: []*quota.Level{{Subject: sub, Bucket: at, From: at, Until: at + 1}}})
		}
		require.NoError(b, s.Apply(ctx, ops))
	}
	require.NoError(b, s.checkpoint(ctx, "usage"))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		require.NoError(b, s.Usage(ctx, r, func(usage.Row) error { n++; return nil }))
		require.Equal(b, 25*30, n)
	}
}
