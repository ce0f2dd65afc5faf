package pgstore

import (
	"math"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

type row = usage.Row

func rangeOf(sub quota.Subject) usage.Range {
	return usage.Range{Org: "acme", Subjects: []quota.Subject{sub}, From: 0, To: math.MaxInt64}
}
