package saccounttest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestTheClockDecidesTheWindow(t *testing.T) {
	h := saccounttest.New(t)
	p := h.Principal(saccounttest.Spec{Monthly: quota.Credit})
	charge := func() bool {
		d, err := h.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credit})
		require.NoError(t, err)
		return d.Allowed
	}
	assert.True(t, charge())
	assert.False(t, charge(), "the month's credit is spent")
	h.Advance(31 * 24 * time.Hour)
	assert.True(t, charge(), "a month later there is a new one")
	h.Set(saccounttest.Start)
	assert.False(t, charge(), "the old window is met as it was left")
}

func TestTwoTokensAreTwoAccounts(t *testing.T) {
	h := saccounttest.New(t)
	_, a := h.Issue(saccounttest.Spec{})
	_, b := h.Issue(saccounttest.Spec{Key: saccount.KeySpec{Name: "CI pipeline", Scopes: []string{"read"}}})
	assert.NotEqual(t, a.Account, b.Account)
	assert.Equal(t, []string{"read"}, b.Scopes)
}
