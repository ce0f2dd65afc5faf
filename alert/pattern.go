package alert

import (
	"math"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

// The rule of KindUnusualSpend.
const (
	// PatternHours is the history that an hour is compared with: four weeks.
	PatternHours = 4 * week
	// PatternQuiet is how long after an alert of an account no other comes.
	PatternQuiet = 24 // hours
	// PatternShare of a day's spending is never unusual in an hour.
	PatternShare = 8
	// PatternTimes is how many times as much as usual is not unusual yet.
	PatternTimes = 3
	// PatternAge is how many hours an account is too young for: a week from its
	// first spending.
	PatternAge = week

	week         = 7 * 24 // hours
	patternLeast = 24     // hours in which something was spent, likewise
	patternOver  = 10     // a tenth above all hours before
)

// Unusual reports whether an hour is far above the same account's own hours
// before it, and what would have been usual. hours are spendings of consecutive
// hours, oldest first, the one in question last; of those before it the latest
// PatternHours count.
//
// The rule: usual is the larger of two amounts. One is the 95th percentile of
// the hours in which something was spent, so that nights and weekends without
// spending do not lower it. The other is the most that was spent in the same
// hour of the week, or the hours beside it, in any of the weeks before, so that
// what happens every Monday morning is usual on Mondays. An hour is unusual
// where it is above 3 times that, more than a tenth above every hour before (what
// was seen already is no news, and bursts of one size differ a little), and at
// least an eighth of an average day with spending. Nothing is unusual in the
// first 7 days of an account, or before it spent in 24 hours: there is too little
// to go by. What happens once a month is not in four weeks' memory, and looks
// unusual each time. PATTERN.md, beside this file, says how often it is right.
func Unusual(hours []quota.Credits) (usual quota.Credits, unusual bool) {
	if len(hours) == 0 {
		return 0, false
	}
	now, past := hours[len(hours)-1], hours[:len(hours)-1]
	past = past[max(0, len(past)-PatternHours):]
	first := slices.IndexFunc(past, func(c quota.Credits) bool { return c > 0 })
	if first < 0 {
		return 0, false
	}
	var active []quota.Credits
	var total quota.Credits
	days := map[int]bool{}
	for i, c := range past {
		if c > 0 {
			active = append(active, c)
			total = add(total, c)
			days[(len(past)-i)/24] = true
		}
	}
	slices.Sort(active)
	most := active[len(active)-1]
	usual = active[(len(active)*95+99)/100-1] // nearest rank
	for back := week; back <= len(past); back += week {
		for i := max(0, len(past)-back-1); i <= min(len(past)-1, len(past)-back+1); i++ {
			usual = max(usual, past[i])
		}
	}
	if len(past)-first < PatternAge || len(active) < patternLeast {
		return usual, false
	}
	return usual, now/PatternTimes > usual && now-min(now, most) > most/patternOver && now >= total/quota.Credits(len(days)*PatternShare)
}

// add stops at the greatest amount.
func add(a, b quota.Credits) quota.Credits {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
