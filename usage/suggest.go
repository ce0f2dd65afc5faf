package usage

import (
	"fmt"
	"math"
	"slices"

	"github.com/keypurse/keypurse/quota"
)

// DefaultHeadRoom is the head room of a Suggestion, in percent.
const DefaultHeadRoom = 25

// Suggestion is a limit as a subject's own peaks suggest it.
type Suggestion struct {
	Step Step `json:"step"` // the limit's period: Day, Week or Month
	// Enough: there were Need whole steps with spending in the history. Where
	// not, Max is 0 and means nothing.
	Enough bool `json:"enough"`
	Have   int  `json:"have"`
	Need   int  `json:"need"`
	// Max is P95 and HeadRoom percent, rounded up to two digits.
	Max      quota.Credits `json:"max"`
	P95      quota.Credits `json:"p95"`  // 95 of 100 steps with spending were no greater
	Peak     quota.Credits `json:"peak"` // the greatest of them
	HeadRoom int           `json:"head_room"`
	// Over is how many steps of the history were above Max: with it as a hard
	// limit, requests would have been refused in them.
	Over int `json:"over"`
	// Capped is how many steps of the history saw requests refused for a
	// limit: what they would have spent is not in the figures, so where this
	// is not 0 the need was greater than what is shown.
	Capped int `json:"capped"`
}

// needs is the history that a suggestion needs: two weeks, six weeks, three
// months.
var needs = map[Step]int{Day: 14, Week: 6, Month: 3}

// Suggest makes a limit out of a series by Day, Week or Month of what a subject
// spent: the 95th percentile (nearest rank) of the steps in which it spent
// anything, and headRoom percent (0 to 1000) above. Steps that are cut (Partial),
// as the one that has not ended, are left out, and so are idle ones: of an
// account that works on weekdays, weekends say nothing about its peaks. It needs
// 14 days, 6 weeks or 3 months with spending, and says what is missing. With
// fewer than 20 the 95th percentile is the greatest. Errors wrap
// quota.ErrInvalid.
func Suggest(s Series, step Step, headRoom int) (Suggestion, error) {
	need, ok := needs[step]
	if !ok {
		return Suggestion{}, fmt.Errorf("usage: suggest: no limit by the %v, want Day, Week or Month: %w", step, quota.ErrInvalid)
	}
	if headRoom < 0 || headRoom > 1000 {
		return Suggestion{}, fmt.Errorf("usage: suggest: head room of %d percent, want 0 to 1000: %w", headRoom, quota.ErrInvalid)
	}
	out := Suggestion{Step: step, Need: need, HeadRoom: headRoom}
	var spent []quota.Credits
	for i := range s.Points {
		p := &s.Points[i]
		if p.Partial {
			continue
		}
		if p.Reasons.Of(quota.ReasonLimit) > 0 {
			out.Capped++
		}
		if p.Credits > 0 {
			spent = append(spent, p.Credits)
		}
	}
	if out.Have = len(spent); out.Have == 0 {
		return out, nil
	}
	slices.Sort(spent)
	out.P95, out.Peak = spent[(95*len(spent)+99)/100-1], spent[len(spent)-1]
	if out.Have < need {
		return out, nil
	}
	out.Enough = true
	n, rest := mulDiv(uint64(out.P95), uint64(100+headRoom), 100)
	if rest {
		n++
	}
	out.Max = roundUp(n)
	for _, c := range spent {
		if c > out.Max {
			out.Over++
		}
	}
	return out, nil
}

// roundUp rounds up to two digits: 1234 to 1300.
func roundUp(n uint64) quota.Credits {
	n = min(n, math.MaxInt64)
	unit := uint64(1)
	for n/unit >= 100 {
		unit *= 10
	}
	if rest := n % unit; rest > 0 {
		n += unit - rest
	}
	return quota.Credits(min(n, math.MaxInt64))
}
