package quota

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sampleCounters() []Counter {
	return []Counter{
		{},
		{Used: 1, Requests: 7},
		{Used: MaxCredits, Held: MaxCredits, Overage: MaxCredits, Max: MaxCredits, Requests: math.MaxInt64},
		{Used: 5, Max: 500_000_000, Capped: true, End: 1_764_000_000_000_000},
		{Used: 5, Held: 7, Stranded: 6},
		{Used: 5, Capped: true, Ceiling: 9, Stranded: MaxCredits, Marks: []Mark{{Start: -3, Threshold: Percent(80)}, {Start: 4, Threshold: Left(7)}, {Threshold: ThresholdOverage}}},
	}
}

func sampleReceipts() []*Receipt {
	level := ReceiptLevel{Subject: "key:abc", Sequence: 3, Bucket: 1_763_000_100_000_000, Limits: []Entry{
		{Limit: "credits", Number: 3, Start: 1_762_000_000_000_000, End: 1_764_600_000_000_000, Max: 500_000_000, Extra: 4, Soft: true, Thresholds: DefaultThresholds()},
		{Limit: "daily", Number: 2, Max: MaxCredits},
	}}
	return []*Receipt{
		{ID: "a", Verb: VerbCharge, Caller: "key:abc", Amount: 5, At: 1_763_000_123_456_789, Keep: 1_766_000_000_000_000,
			Levels: []ReceiptLevel{level, {Subject: "org:acme", Bucket: math.MinInt64 / 2}}, Figures: []Figure{{Max: 1, Used: 2, Held: 3, Overage: 4}}},
		{ID: strings.Repeat("x", MaxIDLen), Verb: VerbReserve, Caller: "key:abc", Amount: MaxCredits, TTL: 60_000_000, At: 1, Keep: 2,
			Levels: []ReceiptLevel{level}, Figures: []Figure{{}}, Hold: HoldCommitted, Expires: 3, Settled: 4, Actual: 6, Final: []Figure{{Max: 9}}, Refunded: 2},
		{ID: "block", Verb: VerbLease, Caller: "key:abc", Of: "owner", Amount: 9, TTL: 3_000_000, At: 1, Keep: math.MaxInt64,
			Levels: []ReceiptLevel{level}, Hold: HoldStranded, Expires: math.MaxInt64, Actual: 6, Left: 3, Requests: 2, Seq: 7},
		{ID: "refund", Verb: VerbRefund, Of: "a", Amount: 0},
	}
}

func TestCodecRoundTrip(t *testing.T) {
	tail := []byte("tail")
	for _, c := range sampleCounters() {
		got, rest, err := ParseCounter(append(AppendCounter(nil, &c), tail...))
		require.NoError(t, err)
		assert.Equal(t, c, got)
		assert.Equal(t, tail, rest)
	}
	for _, r := range sampleReceipts() {
		got, rest, err := ParseReceipt(append(AppendReceipt(nil, r), tail...))
		require.NoError(t, err)
		assert.Equal(t, r, got)
		assert.Equal(t, tail, rest)
	}
	for _, id := range []CounterID{{}, {Subject: "key:\x00é", Series: "@!limit", Number: math.MaxUint32, Start: math.MinInt64}} {
		got, rest, err := ParseCounterID(append(AppendCounterID(nil, id), tail...))
		require.NoError(t, err)
		assert.Equal(t, id, got)
		assert.Equal(t, tail, rest)
	}
	for _, o := range [][]Opening{nil, {{Series: "credits", Number: 4, Start: 5, End: 6}, {}}} {
		got, rest, err := ParseOpenings(append(AppendOpenings(nil, o), tail...))
		require.NoError(t, err)
		assert.Equal(t, o, got)
		assert.Equal(t, tail, rest)
	}
	a := Alert{Seq: 7, Org: "acme", Subject: "org:acme", Limit: "credits", Start: -1, End: 2, Threshold: Left(5), Max: 3, Used: 4, Overage: 5, At: 6}
	b := Alert{Seq: 8, Org: "acme", Subject: "key:k1", At: 7, Kind: "unused", ID: "k1", Data: "{}"}
	gotB, rest, err := ParseAlert(append(AppendAlert(nil, &b), tail...))
	require.NoError(t, err)
	assert.Equal(t, tail, rest)
	assert.Equal(t, b, gotB)
	got, rest, err := ParseAlert(append(AppendAlert(nil, &a), tail...))
	require.NoError(t, err)
	assert.Equal(t, a, got)
	assert.Equal(t, tail, rest)
}

// Whatever is cut off is an error, never a panic or half a value.
func TestCodecTruncated(t *testing.T) {
	for _, r := range sampleReceipts() {
		b := AppendReceipt(nil, r)
		for n := range b {
			_, _, err := ParseReceipt(b[:n])
			require.ErrorIs(t, err, ErrCorrupt, "%d of %d bytes", n, len(b))
		}
	}
	for _, c := range sampleCounters() {
		b := AppendCounter(nil, &c)
		for n := range b {
			_, _, err := ParseCounter(b[:n])
			require.ErrorIs(t, err, ErrCorrupt, "%d of %d bytes", n, len(b))
		}
	}
}

func TestCodecRefusesOtherVersions(t *testing.T) {
	b := AppendCounter(nil, &Counter{Used: 1})
	b[0] = codecVersion + 1
	_, _, err := ParseCounter(b)
	require.ErrorIs(t, err, ErrCorrupt)
}

// What is read back writes the same bytes again, and garbage is an error.
func FuzzCodec(f *testing.F) {
	for _, c := range sampleCounters() {
		f.Add(AppendCounter(nil, &c))
	}
	for _, r := range sampleReceipts() {
		f.Add(AppendReceipt(nil, r))
	}
	f.Add(AppendOpenings(nil, []Opening{{Series: "credits", Number: 4, Start: 5, End: 6}}))
	f.Add(AppendAlert(nil, &Alert{Seq: 7, Org: "acme", Limit: "credits", Threshold: Left(5)}))
	f.Add(AppendAlert(nil, &Alert{Seq: 7, Org: "acme", Kind: "unused", ID: "k1", Data: "{}"}))
	f.Add(AppendCounterID(nil, CounterID{Subject: "key:a", Series: "credits", Number: 1, Start: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, _, err := ParseCounter(b); err == nil {
			again, _, err := ParseCounter(AppendCounter(nil, &c))
			require.NoError(t, err)
			assert.Equal(t, AppendCounter(nil, &c), AppendCounter(nil, &again))
			assert.False(t, c.Used < 0 || c.Held < 0 || c.Overage < 0 || c.Max < 0 || c.Stranded < 0 || c.Requests < 0) // a ceiling may be below 0
		} else {
			assert.ErrorIs(t, err, ErrCorrupt)
		}
		if r, _, err := ParseReceipt(b); err == nil {
			again, _, err := ParseReceipt(AppendReceipt(nil, r))
			require.NoError(t, err)
			assert.Equal(t, AppendReceipt(nil, r), AppendReceipt(nil, again))
		} else {
			assert.ErrorIs(t, err, ErrCorrupt)
		}
		if o, _, err := ParseOpenings(b); err == nil {
			again, _, err := ParseOpenings(AppendOpenings(nil, o))
			require.NoError(t, err)
			assert.Equal(t, o, again)
		}
		if a, _, err := ParseAlert(b); err == nil {
			again, _, err := ParseAlert(AppendAlert(nil, &a))
			require.NoError(t, err)
			assert.Equal(t, a, again)
		}
		if id, _, err := ParseCounterID(b); err == nil {
			again, _, err := ParseCounterID(AppendCounterID(nil, id))
			require.NoError(t, err)
			assert.Equal(t, id, again)
		}
	})
}
