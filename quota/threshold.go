package quota

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Threshold is a point of a limit that alerts when it is passed: a percentage
// of the limit spent, an absolute amount left, or overage. The zero value is
// ThresholdOverage.
type Threshold int64

// ThresholdOverage is passed when anything was spent beyond the limit's room.
const ThresholdOverage Threshold = 0

// MaxThresholds bounds how many thresholds one limit may have.
const MaxThresholds = 8

// Percent is the threshold at p percent of a limit, 1 to 1000.
func Percent(p int) Threshold { return Threshold(p) }

// Left is the threshold at which c credits or fewer remain.
func Left(c Credits) Threshold { return Threshold(-int64(c) - 1) }

// DefaultThresholds are 50, 80 and 100 percent, and overage.
func DefaultThresholds() []Threshold {
	return []Threshold{Percent(50), Percent(80), Percent(100), ThresholdOverage}
}

// Validate refuses percentages above 1000. The error wraps ErrInvalid.
func (t Threshold) Validate() error {
	if t > 1000 {
		return fmt.Errorf("%w threshold: %d percent; give 1 to 1000", ErrInvalid, int64(t))
	}
	return nil
}

// String is "80%", "overage", or "left 20.5".
func (t Threshold) String() string {
	switch {
	case t == ThresholdOverage:
		return "overage"
	case t > 0:
		return strconv.FormatInt(int64(t), 10) + "%"
	}
	return "left " + Credits(-(int64(t) + 1)).String()
}

// MarshalText writes what String prints.
func (t Threshold) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes. Errors wrap ErrInvalid.
func (t *Threshold) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "overage" {
		*t = ThresholdOverage
		return nil
	}
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil || n < 1 || n > 1000 {
			return fmt.Errorf("%w threshold: percent must be 1 to 1000", ErrInvalid)
		}
		*t = Percent(int(n))
		return nil
	}
	if a, ok := strings.CutPrefix(s, "left "); ok {
		c, err := ParseCredits(a)
		if err != nil || c < 0 {
			return fmt.Errorf(`%w threshold: "left" takes an amount of credits`, ErrInvalid)
		}
		*t = Left(c)
		return nil
	}
	return fmt.Errorf(`%w threshold: write "80%%", "left 20" or "overage"`, ErrInvalid)
}

// passed reports whether a counter stands at or beyond the threshold of bound.
func (t Threshold) passed(c *Counter, bound Credits) bool {
	if t == ThresholdOverage {
		return c.Overage > 0
	}
	spent := satAdd(c.Used, c.Overage)
	if bound <= 0 || spent == 0 {
		return false // nothing may be spent: there is no share of nothing
	}
	if t > 0 {
		hs, ls := bits.Mul64(uint64(spent), 100)
		hb, lb := bits.Mul64(uint64(bound), uint64(t))
		return hs > hb || hs == hb && ls >= lb
	}
	return bound-min(spent, bound) <= Credits(-(int64(t) + 1))
}
