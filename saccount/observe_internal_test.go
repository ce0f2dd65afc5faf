package saccount

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keypurse/keypurse/quota"
)

// slow is a Store of which nothing is known but that it is one.
type slow struct{ Store }

// quick waits for nothing.
type quick struct{ slow }

func (quick) Desk(quota.Store, string) *quota.Desk { return nil }

// What a store is decides how charges are gathered: being watched must not
// change it.
func TestAnObservedStoreIsWhatItWas(t *testing.T) {
	tell := func(context.Context, Stored) {}
	_, direct := observe(slow{}, tell).(quota.Direct)
	assert.False(t, direct)
	_, direct = observe(quick{}, tell).(quota.Direct)
	assert.True(t, direct)
	assert.Equal(t, Store(slow{}), observe(slow{}, nil))
}
