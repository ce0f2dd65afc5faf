package saccount_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

// moody is a sink that takes nothing while it is down.
type moody struct {
	inbox
	down bool
}

func (m *moody) Send(ctx context.Context, a alert.Alert) error {
	if m.down {
		return errors.New("503")
	}
	return m.inbox.Send(ctx, a)
}

func TestAlertsWaitUntilTheyAreTaken(t *testing.T) {
	var n notes
	sink := &moody{down: true}
	h := saccounttest.New(t, saccount.Config{Observer: n.observer(), Alerts: saccount.Alerts{Sinks: []alert.Route{{Name: "desk", Sink: sink}}}})
	waiting := func(want int64) {
		t.Helper()
		got, err := h.Service.AlertsWaiting(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	waiting(0)
	p := h.Principal(saccounttest.Spec{Monthly: 100})
	_, err := h.Service.Charge(t.Context(), p, saccount.Charge{Amount: quota.Credits(100)}) // 50, 80 and 100 %
	require.NoError(t, err)
	waiting(3) // nobody has looked to whom they go
	require.NoError(t, h.Service.DeliverAlerts(t.Context()))
	waiting(3) // on their way
	sink.down = false
	h.Advance(time.Hour)
	require.NoError(t, h.Service.DeliverAlerts(t.Context()))
	waiting(0)
	assert.EqualValues(t, 3, sink.all.Load())
	for _, call := range []string{"outbox", "dispatched", "dispatch", "due", "claim", "settle", "deliveries"} {
		assert.Positive(t, n.stored[call], call)
	}
	require.NoError(t, h.Service.Close())
	_, err = h.Service.AlertsWaiting(t.Context())
	assert.ErrorIs(t, err, saccount.ErrClosed)
}
