package alert_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/store/memstore"
)

// A sink that fails is tried by the schedule, then the alert is a dead letter,
// which can be replayed; the other sink never hears of it.
func TestTriesAndDeadLetters(t *testing.T) {
	st, c := memstore.New(), &clock{at: start}
	good, bad := &box{}, &box{fail: func(alert.Alert, int) error { return errors.New("no") }}
	schedule := []time.Duration{time.Minute, time.Hour, 10 * time.Hour}
	d := deliverer(t, alert.Config{Store: st, Now: c.now, Schedule: schedule, Sinks: []alert.Route{{Name: "good", Sink: good}, {Name: "bad", Sink: bad}}})
	post(t, st, "acme", 3, start)
	require.NoError(t, d.Deliver(ctx))
	for try, wait := range schedule {
		for _, del := range list(t, st, alert.Query{Sink: "bad"}) {
			assert.EqualValues(t, try+1, del.Tries)
			assert.Equal(t, alert.Pending, del.State)
			assert.Equal(t, "no", del.Error)
			at := time.UnixMicro(del.Next).Sub(c.now())
			assert.GreaterOrEqual(t, at, wait/2)
			assert.Less(t, at, wait+wait/2)
		}
		c.add(wait/2 - time.Second)
		require.NoError(t, d.Deliver(ctx))
		assert.Len(t, bad.n, 3)
		for id, n := range bad.n {
			assert.Equal(t, try+1, n, "%s before it was due", id)
		}
		c.add(wait + time.Second)
		require.NoError(t, d.Deliver(ctx))
	}
	dead := list(t, st, alert.Query{State: alert.Dead})
	require.Len(t, dead, 3)
	c.add(1000 * time.Hour)
	require.NoError(t, d.Deliver(ctx))
	assert.Len(t, good.got, 3)
	for _, n := range bad.n {
		assert.Equal(t, 4, n)
	}
	before := slices.Sorted(func(yield func(string) bool) {
		for id := range bad.n {
			if !yield(id) {
				return
			}
		}
	})
	bad.fail = nil
	n, err := d.Replay(ctx, alert.Query{Sink: "bad", Org: "acme"})
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	require.NoError(t, d.Deliver(ctx))
	ids := bad.ids()
	slices.Sort(ids)
	assert.Equal(t, before, ids, "one id for ever")
	ids = good.ids()
	slices.Sort(ids)
	assert.Equal(t, before, ids, "and for all sinks")
	assert.Len(t, list(t, st, alert.Query{State: alert.Delivered}), 6)
}

func TestRetryAfterAndGone(t *testing.T) {
	st, c := memstore.New(), &clock{at: start}
	failure := &alert.Failure{Err: errors.New("busy"), RetryAfter: 3 * time.Hour}
	bad := &box{fail: func(alert.Alert, int) error { return fmt.Errorf("sink: %w", failure) }}
	var gone []string
	d := deliverer(t, alert.Config{
		Store: st, Now: c.now, Sinks: []alert.Route{{Name: "bad", Sink: bad}},
		Gone: func(_ context.Context, org, sink string, why error) {
			gone = append(gone, org+" "+sink+" "+why.Error())
		},
	})
	post(t, st, "acme", 1, start)
	require.NoError(t, d.Deliver(ctx))
	assert.Equal(t, c.now().Add(3*time.Hour).UnixMicro(), list(t, st, alert.Query{})[0].Next)
	c.add(3 * time.Hour)
	failure.RetryAfter = 1000 * time.Hour
	require.NoError(t, d.Deliver(ctx))
	assert.Equal(t, c.now().Add(alert.MaxRetryAfter).UnixMicro(), list(t, st, alert.Query{})[0].Next, "bounded")
	c.add(alert.MaxRetryAfter)
	failure.Gone = true
	require.NoError(t, d.Deliver(ctx))
	assert.Equal(t, []string{"acme bad sink: busy"}, gone)
	assert.Equal(t, alert.Dead, list(t, st, alert.Query{})[0].State)
}

// Two processes on one store: nothing is sent twice, and what one that died had
// claimed the other sends when its time is over.
func TestSharedOutbox(t *testing.T) {
	st, c := memstore.New(), &clock{at: start}
	b := &box{}
	cfg := alert.Config{Store: st, Now: c.now, Sinks: []alert.Route{{Name: "box", Sink: b}}}
	one, two := deliverer(t, cfg), deliverer(t, cfg)
	post(t, st, "acme", 300, start)
	var wg sync.WaitGroup
	for _, d := range []*alert.Deliverer{one, two, one, two} {
		wg.Go(func() { assert.NoError(t, d.Deliver(ctx)) })
	}
	wg.Wait()
	require.NoError(t, one.Deliver(ctx))
	assert.Len(t, b.got, 300)
	post(t, st, "acme", 5, start)
	from, err := st.Dispatched(ctx)
	require.NoError(t, err)
	var ds []alert.Delivery
	for i := range int64(5) {
		ds = append(ds, alert.Delivery{Alert: quota.Alert{Seq: from + i + 1}, Sink: "box", State: alert.Pending, Next: c.now().UnixMicro()})
	}
	require.NoError(t, st.Dispatch(ctx, from, from+5, ds))
	_, err = st.ClaimDeliveries(ctx, "box", c.now().UnixMicro(), c.now().Add(time.Minute).UnixMicro(), 5) // and dies
	require.NoError(t, err)
	require.NoError(t, two.Deliver(ctx))
	assert.Len(t, b.got, 300)
	c.add(time.Minute)
	require.NoError(t, two.Deliver(ctx))
	assert.Len(t, b.got, 305)
}

// settles counts what is noted, and holds the first note back until so many
// alerts were sent.
type settles struct {
	*memstore.Store
	until *sync.WaitGroup
	calls atomic.Int64
}

func (s *settles) SettleDeliveries(ctx context.Context, ds []alert.Delivery) (int, error) {
	if s.calls.Add(1) == 1 {
		s.until.Wait()
	}
	return s.Store.SettleDeliveries(ctx, ds)
}

// What was sent is noted at once, and what was sent while that was on its way
// is noted together: a commit is not paid for by each alert, and sending does
// not wait for it.
func TestNotesAreGathered(t *testing.T) {
	const alerts = 16 // are claimed at once
	c := &clock{at: start}
	st := &settles{Store: memstore.New(), until: &sync.WaitGroup{}}
	st.until.Add(alerts)
	post(t, st.Store, "acme", alerts, start)
	sink := alert.Func(func(context.Context, alert.Alert) error { st.until.Done(); return nil })
	d := deliverer(t, alert.Config{Store: st, Now: c.now, Sinks: []alert.Route{{Name: "box", Sink: sink}}})
	require.NoError(t, d.Deliver(ctx))
	assert.Len(t, list(t, st, alert.Query{State: alert.Delivered}), alerts)
	assert.LessOrEqual(t, st.calls.Load(), int64(2+4), "the first, those that waited for it, and four that were still being sent")
}

// A sink that never returns takes nothing from the others, and Run ends though
// it does not.
func TestHangingSink(t *testing.T) {
	st := memstore.New()
	release := make(chan struct{})
	var hanging atomic.Int64
	got := make(chan string, 100)
	panicked := make(chan struct{}, 100)
	d := deliverer(t, alert.Config{
		Store: st, Poll: time.Millisecond, Timeout: 10 * time.Millisecond, Parallel: 2, MaxAge: 1000 * time.Hour,
		Sinks: []alert.Route{
			{Name: "hangs", Sink: alert.Func(func(context.Context, alert.Alert) error { hanging.Add(1); <-release; return nil })},
			{Name: "panics", Sink: alert.Func(func(context.Context, alert.Alert) error { panicked <- struct{}{}; panic("oops") })},
			{Name: "works", Sink: alert.Func(func(_ context.Context, a alert.Alert) error { got <- a.ID; return nil })},
		},
	})
	post(t, st, "acme", 20, time.Now())
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- d.Run(run) }()
	for range 20 {
		<-got // while the other hangs
	}
	<-panicked
	stop()
	require.NoError(t, <-ended)
	assert.LessOrEqual(t, hanging.Load(), int64(4), "it is given no more while it hangs")
	tried := 0
	for _, del := range list(t, st, alert.Query{Sink: "panics"}) {
		if del.Tries > 0 { // others were claimed, and given back when Run ended
			tried++
			assert.Contains(t, del.Error, "panicked: oops")
		}
	}
	assert.Positive(t, tried)
	close(release)
	assert.Empty(t, list(t, st, alert.Query{Sink: "hangs", State: alert.Delivered}))
}

// Real receivers over TLS that fail in every way: nothing is lost, nothing has a
// second id, and the one that works is not held up.
func TestReceiverChaos(t *testing.T) {
	const alerts = 4
	st, c := memstore.New(), &clock{at: start}
	hang := make(chan struct{})
	var mu sync.Mutex
	seen := map[string]map[string]int{} // path -> id -> how often
	healthyDone := make(chan struct{})
	srv, hooks := receiver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if seen[r.URL.Path] == nil {
			seen[r.URL.Path] = map[string]int{}
		}
		id := r.Header.Get("webhook-id")
		seen[r.URL.Path][id]++
		n := seen[r.URL.Path][id]
		if r.URL.Path == "/healthy" && len(seen["/healthy"]) == alerts && n == 1 {
			close(healthyDone)
		}
		mu.Unlock()
		if r.URL.Path == "/410" {
			w.WriteHeader(http.StatusGone)
			return
		}
		if r.URL.Path == "/healthy" || n > 2 { // everybody recovers after two failures
			return
		}
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/302":
			http.Redirect(w, r, "/healthy", http.StatusFound)
		case "/429":
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/timeout":
			<-hang
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/slow": // a body that never ends, and a status that says no
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			<-hang
		}
	}))
	defer close(hang)
	paths := []string{"/healthy", "/500", "/302", "/429", "/timeout", "/reset", "/slow", "/410"}
	var routes []alert.Route
	for _, p := range paths {
		sink, err := hooks.Sink(srv.URL+p, secret(t, 1))
		require.NoError(t, err)
		routes = append(routes, alert.Route{Name: p, Sink: sink})
	}
	var gone atomic.Int64
	d := deliverer(t, alert.Config{
		Store: st, Now: c.now, Sinks: routes, Timeout: 3 * time.Second, Poll: time.Millisecond,
		Schedule: []time.Duration{time.Minute, time.Minute, time.Minute, time.Minute},
		Gone:     func(context.Context, string, string, error) { gone.Add(1) },
	})
	post(t, st, "acme", alerts, start)
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, d.Run(run)) })
	select {
	case <-healthyDone: // while the clock stands: nobody else was given a second try
	case <-time.After(20 * time.Second):
		t.Error("the receiver that works did not get everything while others hung")
	}
	mu.Lock()
	for p, ids := range seen {
		for id, n := range ids {
			assert.Equal(t, 1, n, "%s %s", p, id)
		}
	}
	mu.Unlock()
	stop()
	wg.Wait()
	for range 6 {
		c.add(2 * time.Hour)
		require.NoError(t, d.Deliver(ctx))
	}
	ids := map[string]bool{}
	for _, p := range paths {
		assert.Len(t, seen[p], alerts, p)
		for id, n := range seen[p] {
			ids[id] = true
			switch p {
			case "/healthy", "/410":
				assert.Equal(t, 1, n, p)
			default:
				assert.GreaterOrEqual(t, n, 3, "%s: two failures and a success", p)
			}
		}
		state := alert.Delivered
		if p == "/410" {
			state = alert.Dead
		}
		assert.Len(t, list(t, st, alert.Query{Sink: p, State: state}), alerts, p)
	}
	assert.Len(t, ids, alerts, "one id each")
	assert.EqualValues(t, alerts, gone.Load())
}

// What was to be sent to a sink that is gone is a dead letter; old alerts are
// not sent when the host begins to watch.
func TestSinksComeAndGo(t *testing.T) {
	st, c := memstore.New(), &clock{at: start}
	b := &box{}
	post(t, st, "acme", 2, start.Add(-8*24*time.Hour))
	post(t, st, "acme", 3, start)
	own := []alert.Route{{Name: "theirs", Sink: b}}
	var broken error
	recipients := func(_ context.Context, org string) ([]alert.Route, error) {
		if org != "acme" {
			return nil, broken
		}
		return own, broken
	}
	d := deliverer(t, alert.Config{Store: st, Now: c.now, Recipients: recipients})
	broken = errors.New("the store is away")
	require.Error(t, d.Deliver(ctx))
	assert.Empty(t, list(t, st, alert.Query{}), "they wait")
	broken = nil
	require.NoError(t, d.Deliver(ctx))
	assert.Len(t, b.got, 3)
	post(t, st, "acme", 1, start)
	b.fail = func(alert.Alert, int) error { return errors.New("no") }
	require.NoError(t, d.Deliver(ctx))
	own = nil
	c.add(time.Hour)
	require.NoError(t, d.Deliver(ctx))
	dead := list(t, st, alert.Query{State: alert.Dead})
	require.Len(t, dead, 1)
	assert.Contains(t, dead[0].Error, "no such sink")
	// A record that is damaged holds up nobody else.
	broken = fmt.Errorf("org: %w", quota.ErrCorrupt)
	post(t, st, "other", 1, start)
	require.NoError(t, d.Deliver(ctx))
	to, err := st.Dispatched(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 7, to)
}

func TestFilters(t *testing.T) {
	a := sample()
	key := alert.Read(quota.Alert{Kind: string(alert.KindKeyExpiring), Subject: "key:k1"}, "")
	test := alert.Read(quota.Alert{Kind: string(alert.KindTest), Subject: "org:acme"}, "")
	for _, c := range []struct {
		f              alert.Filter
		account, isKey bool
	}{
		{alert.Filter{}, true, true},
		{alert.Filter{Kinds: []alert.Kind{alert.KindThreshold}}, true, false},
		{alert.Filter{Kinds: []alert.Kind{alert.KindOverage, alert.KindKeyExpiring}}, false, true},
		{alert.Filter{Subjects: []quota.Subject{"account:sa1"}}, true, false},
		{alert.Filter{Subjects: []quota.Subject{"account:sa2", "key:"}}, false, true},
		{alert.Filter{Limits: []string{"other"}}, false, true},
		{alert.Filter{Limits: []string{"credits"}, Subjects: []quota.Subject{"account:"}}, true, false},
	} {
		require.NoError(t, c.f.Validate())
		assert.Equal(t, c.account, c.f.Match(&a), "%+v", c.f)
		assert.Equal(t, c.isKey, c.f.Match(&key), "%+v", c.f)
		assert.True(t, c.f.Match(&test), "a test passes always")
	}
	for _, f := range []alert.Filter{{Kinds: []alert.Kind{"nonsense"}}, {Subjects: []quota.Subject{"sa1"}}, {Limits: make([]string, 65)}} {
		assert.ErrorIs(t, f.Validate(), quota.ErrInvalid)
	}
}

func TestConfigIsChecked(t *testing.T) {
	st, b := memstore.New(), &box{}
	for want, cfg := range map[string]alert.Config{
		"Store":    {},
		"Sinks":    {Store: st, Sinks: []alert.Route{{Name: "x"}}},
		`"x"`:      {Store: st, Sinks: []alert.Route{{Name: "x", Sink: b}, {Name: "x", Sink: b}}},
		"kind":     {Store: st, Sinks: []alert.Route{{Name: "x", Sink: b, Filter: alert.Filter{Kinds: []alert.Kind{"y"}}}}},
		"Poll":     {Store: st, Poll: -1},
		"Timeout":  {Store: st, Timeout: time.Hour},
		"Parallel": {Store: st, Parallel: 1},
		"Schedule": {Store: st, Schedule: []time.Duration{0}},
		"MaxAge":   {Store: st, MaxAge: time.Second},
	} {
		_, err := alert.NewDeliverer(cfg)
		require.ErrorIs(t, err, quota.ErrInvalid, want)
		assert.Contains(t, err.Error(), want)
	}
}

// Every kind has a sentence with its figures in it, and none of the marks of a
// figure that is missing.
func TestSentences(t *testing.T) {
	figures := `{"days":"7","time":"2026-12-17T10:00:00Z","address":"192.0.2.1","spent":"120","usual":"10","reason":"not used for 90 days","name":"Nightly \u003cb\u003e"}`
	var all []string
	for _, k := range alert.Kinds() {
		raw := quota.Alert{Kind: string(k), Subject: "key:k1", Data: figures, At: start.UnixMicro()}
		switch k {
		case alert.KindThreshold, alert.KindLeft, alert.KindOverage:
			raw.Kind = ""
			raw.Threshold = map[alert.Kind]quota.Threshold{alert.KindThreshold: 80, alert.KindLeft: quota.Left(20 * quota.Credit), alert.KindOverage: quota.ThresholdOverage}[k]
			raw.Limit, raw.Max, raw.Used, raw.Overage, raw.End = "credits", 100*quota.Credit, 81*quota.Credit, quota.Credit, start.UnixMicro()
		case alert.KindRunOut:
			raw.Limit, raw.Max = "tokens", 100*quota.Credit
		}
		a := alert.Read(raw, "")
		assert.Equal(t, k, a.Kind)
		assert.NotContains(t, a.Text, "%!")
		assert.NotContains(t, a.Text, "  ")
		assert.True(t, strings.HasSuffix(a.Text, "."), a.Text)
		assert.Contains(t, a.Text, "ey “Nightly <b>”", k)
		all = append(all, a.Text)
	}
	assert.Equal(t, []string{
		"Key “Nightly <b>” has spent 82 credits, 80% or more of its limit of 100 credits, which resets on 10 March 2026, 12:00 UTC.",
		"Key “Nightly <b>” has 20 credits or fewer left of its limit of 100 credits, which resets on 10 March 2026, 12:00 UTC.",
		"Key “Nightly <b>” has spent 1 credits more than there was room for in its limit of 100 credits, which resets on 10 March 2026, 12:00 UTC.",
		"At this pace key “Nightly <b>” will have spent its limit “tokens” of 100 credits, on 17 December 2026, 10:00 UTC.",
		"Key “Nightly <b>” spent 120 credits in the hour before 17 December 2026, 10:00 UTC; up to 10 is usual.",
		"Key “Nightly <b>” was not used for 7 days, since 17 December 2026, 10:00 UTC. Disable it if nobody needs it.",
		"Key “Nightly <b>” expires in less than 7 days, on 17 December 2026, 10:00 UTC.",
		"The secret of key “Nightly <b>” is older than 7 days. Rotate it.",
		"Key “Nightly <b>” was used from 192.0.2.1 for the first time.",
		"Key “Nightly <b>” was disabled: not used for 90 days.",
		"The token of key “Nightly <b>” was found where it should not be, and the key was disabled: not used for 90 days.",
		"The webhook 192.0.2.1 of key “Nightly <b>” was disabled: not used for 90 days.",
		"This is a test alert of key “Nightly <b>”. Nothing happened.",
	}, all)
}
