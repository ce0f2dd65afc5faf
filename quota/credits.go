package quota

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Credits is an amount of quota in millionths of a credit. It is an integer so
// that sums are exact: 0.1 credits ten times over is one credit, and a limit of
// 500 admits neither a millionth more nor a millionth less. The zero value is
// no credits. Negative amounts can be held and printed (a difference may be
// one) but nothing in this package accepts one as a cost, a Max or an amount.
//
// Add, Sub and Mul check for overflow; the operators + and * do not.
//
// As text and in JSON an amount is a decimal in whole credits, see
// [ParseCredits]; in a database it is the plain int64.
type Credits int64

const (
	// Credit is one whole credit.
	Credit Credits = 1_000_000
	// MaxCredits is the greatest amount, 9223372036854.775807 credits.
	MaxCredits Credits = math.MaxInt64

	// creditDecimals is the number of decimals that Credits can hold.
	creditDecimals = 6
	// maxCreditsText bounds what is read as an amount. The longest amount
	// has 21 characters, the rest is room for zeros behind it.
	maxCreditsText = 64
)

// ParseCredits reads an amount of credits such as "500", "2.05" or "0.000001",
// exactly. The form is that of a JSON number (RFC 8259, section 6) without
// exponent: digits with no needless zero in front, then at most six decimals
// (zeros beyond the sixth are accepted), in at most 64 bytes. Spaces, '+', ','
// and a point without digits on both sides are refused.
//
// A leading '-' is accepted, so that every amount that String prints can be
// read back and so that callers can refuse a negative amount in words of their
// own; "-0" is 0.
//
// The error wraps [ErrInvalid], and [ErrOverflow] too where the amount is well
// formed but does not fit. It does not repeat the text.
func ParseCredits(s string) (Credits, error) {
	c, err := parseCredits(s)
	if err != nil {
		return 0, fmt.Errorf("quota: parse credits: %w", err)
	}
	return c, nil
}

func parseCredits[T string | []byte](s T) (Credits, error) {
	if len(s) == 0 {
		return 0, fmt.Errorf("empty, want a decimal such as 2.05: %w", ErrInvalid)
	}
	if len(s) > maxCreditsText {
		return 0, fmt.Errorf("longer than %d characters: %w", maxCreditsText, ErrInvalid)
	}
	i, negative := 0, false
	if s[0] == '-' {
		i, negative = 1, true
	}
	var micros uint64
	fits := true
	digit := func(d byte) {
		// 922337203685477580 is the last number that ten times over plus a
		// digit stays within uint64 by far; the sign decides the rest below.
		if micros > math.MaxInt64/10 {
			fits = false
			return
		}
		micros = micros*10 + uint64(d-'0')
	}

	whole := i
	for ; i < len(s) && isDigit(s[i]); i++ {
		digit(s[i])
	}
	switch {
	case i == whole:
		return 0, malformed(s, i, "a digit")
	case i > whole+1 && s[whole] == '0':
		return 0, fmt.Errorf("needless zero in front: %w", ErrInvalid)
	}
	decimals := 0
	if i < len(s) && s[i] == '.' {
		i++
		point := i
		for ; i < len(s) && isDigit(s[i]); i++ {
			if decimals < creditDecimals {
				digit(s[i])
				decimals++
			} else if s[i] != '0' {
				return 0, fmt.Errorf("more than %d decimals, a millionth of a credit is the least amount: %w", creditDecimals, ErrInvalid)
			}
		}
		if i == point {
			return 0, malformed(s, i, "a digit after the point")
		}
	}
	if i < len(s) {
		return 0, malformed(s, i, "a decimal such as 2.05, without exponent, sign or spaces")
	}
	for ; decimals < creditDecimals; decimals++ {
		digit('0')
	}

	bound := uint64(math.MaxInt64)
	if negative {
		bound++ // int64 reaches one further below zero
	}
	if !fits || micros > bound {
		return 0, overflow("amount")
	}
	if negative {
		return Credits(-micros), nil // two's complement, exact at the bound too
	}
	return Credits(micros), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// malformed says where the text stops being an amount. It shows at most one
// byte of it, so that a secret pasted into the wrong field stays out of logs.
func malformed[T string | []byte](s T, at int, want string) error {
	if at == len(s) {
		return fmt.Errorf("ends early, want %s: %w", want, ErrInvalid)
	}
	return fmt.Errorf("%q at byte %d, want %s: %w", s[at:at+1], at, want, ErrInvalid)
}

func overflow(what string) error {
	return fmt.Errorf("%s beyond %v credits: %w: %w", what, MaxCredits, ErrOverflow, ErrInvalid)
}

// Add returns c + d, or an error that wraps [ErrOverflow] and [ErrInvalid].
func (c Credits) Add(d Credits) (Credits, error) {
	sum := c + d
	if (c > sum) != (d < 0) {
		return 0, fmt.Errorf("quota: add credits: %w", overflow("sum"))
	}
	return sum, nil
}

// Sub returns c - d, or an error that wraps [ErrOverflow] and [ErrInvalid].
func (c Credits) Sub(d Credits) (Credits, error) {
	diff := c - d
	if (c < diff) != (d < 0) {
		return 0, fmt.Errorf("quota: subtract credits: %w", overflow("difference"))
	}
	return diff, nil
}

// Mul returns n times c, as for a price per item and a number of items, or an
// error that wraps [ErrOverflow] and [ErrInvalid].
func (c Credits) Mul(n int64) (Credits, error) {
	if c == 0 || n == 0 {
		return 0, nil
	}
	product := c * Credits(n)
	// The division misses one case: -2^63 times -1 wraps to -2^63.
	if product/Credits(n) != c || (n == -1 && c == math.MinInt64) {
		return 0, fmt.Errorf("quota: multiply credits: %w", overflow("product"))
	}
	return product, nil
}

// Whole returns the whole credits in c, rounded towards zero. It is for places
// that cannot hold a decimal, such as the integers of RateLimit headers.
func (c Credits) Whole() int64 { return int64(c / Credit) }

// String returns c in credits as the shortest exact decimal: "2.05", "500",
// "0.000001", "-0.5".
func (c Credits) String() string {
	var b [24]byte
	return string(c.append(b[:0]))
}

func (c Credits) append(b []byte) []byte {
	micros := uint64(c)
	if c < 0 {
		b = append(b, '-')
		micros = -micros
	}
	b = strconv.AppendUint(b, micros/uint64(Credit), 10)
	rest := micros % uint64(Credit)
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for unit := uint64(Credit) / 10; rest > 0; unit /= 10 {
		b = append(b, '0'+byte(rest/unit))
		rest %= unit
	}
	return b
}

// AppendText appends what String returns to b, without allocating where b has
// room for 21 bytes. The error is always nil. It implements
// [encoding.TextAppender].
func (c Credits) AppendText(b []byte) ([]byte, error) { return c.append(b), nil }

// MarshalText returns what String returns. The error is always nil.
func (c Credits) MarshalText() ([]byte, error) { return c.append(make([]byte, 0, 24)), nil }

// UnmarshalText reads what [ParseCredits] reads, with the same errors. On an
// error c is unchanged.
func (c *Credits) UnmarshalText(text []byte) error {
	v, err := parseCredits(text)
	if err != nil {
		return fmt.Errorf("quota: parse credits: %w", err)
	}
	*c = v
	return nil
}

// MarshalJSON returns the amount as a JSON string, "2.05" in quotes: readers
// that take JSON numbers for binary floating point, as JavaScript does, would
// lose its last digits. The error is always nil.
func (c Credits) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 24), '"')
	return append(c.append(b), '"'), nil
}

// UnmarshalJSON reads a JSON string or a JSON number literal in the form of
// [ParseCredits], exactly: 2.05 never passes through floating point and 1e3 is
// refused. So is null, since it would silently become an amount: use *Credits
// where an amount may be absent. On an error, which wraps [ErrInvalid], c is
// unchanged.
func (c *Credits) UnmarshalJSON(data []byte) error {
	text := data
	if len(data) > 0 && data[0] == '"' {
		if len(data) > 6*maxCreditsText+2 { // six bytes a character at most, as \u0030
			return fmt.Errorf("quota: parse credits: longer than %d characters: %w", maxCreditsText, ErrInvalid)
		}
		if end := len(data) - 1; end > 0 && data[end] == '"' && bytes.IndexByte(data, '\\') < 0 {
			text = data[1:end]
		} else {
			var s string
			if err := json.Unmarshal(data, &s); err != nil {
				return fmt.Errorf("quota: parse credits: not a JSON string: %w", ErrInvalid)
			}
			text = []byte(s)
		}
	}
	return c.UnmarshalText(text)
}
