package quota_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
)

func TestParseCredits(t *testing.T) {
	for _, c := range []struct {
		in   string
		want quota.Credits
		out  string // of String, "" for the same as in
	}{
		{"0", 0, ""},
		{"-0", 0, "0"},
		{"0.0", 0, "0"},
		{"1", quota.Credit, ""},
		{"500", 500 * quota.Credit, ""},
		{"2.05", 2_050_000, ""},
		{"2.050", 2_050_000, "2.05"},
		{"0.01", 10_000, ""},
		{"0.000001", 1, ""},
		{"-0.000001", -1, ""},
		{"-0.5", -500_000, ""},
		{"100.000000", 100 * quota.Credit, "100"},
		{"0.1000000000", 100_000, "0.1"},
		{"9223372036854.775807", quota.MaxCredits, ""},
		{"9223372036854.77580700", quota.MaxCredits, "9223372036854.775807"},
		{"-9223372036854.775807", -quota.MaxCredits, ""},
		{"-9223372036854.775808", math.MinInt64, ""},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := quota.ParseCredits(c.in)
			require.NoError(t, err)
			assert.Equal(t, int64(c.want), int64(got))
			want := c.out
			if want == "" {
				want = c.in
			}
			assert.Equal(t, want, got.String())
		})
	}
}

func TestParseCreditsRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "-", "+1", "--1", ".", ".5", "5.", "-.5", "1..2", "1.2.3", " 1", "1 ", "1\n", "1\x00",
		"00", "007", "-01", "00.5", "1e3", "1E3", "0x10", "1_000", "1,5", "1'000", "NaN", "Inf", "-Inf", "null",
		"0.0000001", "1.0000000001", "\u0661", "\uff11", "5€", "½", "\xff",
		strings.Repeat("1", 65), "0." + strings.Repeat("0", 63), "1" + strings.Repeat(" ", 1<<20),
	} {
		_, err := quota.ParseCredits(in)
		require.Error(t, err, "%.40q", in)
		assert.ErrorIs(t, err, quota.ErrInvalid, "%.40q", in)
		assert.NotErrorIs(t, err, quota.ErrOverflow, "%.40q", in)
		assert.Less(t, len(err.Error()), 200, "%.40q", in)
	}
	for _, in := range []string{
		"9223372036854.775808", "-9223372036854.775809", "9223372036855", "9223372036854775807",
		"18446744073709.551616", "18446744073710", strings.Repeat("9", 64), "-" + strings.Repeat("9", 63),
	} {
		_, err := quota.ParseCredits(in)
		assert.ErrorIs(t, err, quota.ErrInvalid, in)
		assert.ErrorIs(t, err, quota.ErrOverflow, in)
		assert.ErrorContains(t, err, "9223372036854.775807", in)
	}
}

func TestParseCreditsErrorKeepsTheTextToItself(t *testing.T) {
	const token = "acme_live_0123456789abcdefSECRET"
	_, err := quota.ParseCredits(token)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "acme")
	assert.NotContains(t, err.Error(), "SECRET")
}

// edges are the amounts around which int64 arithmetic goes wrong.
var edges = []int64{
	math.MinInt64, math.MinInt64 + 1, math.MinInt64 / 2, -1 << 32, -3_037_000_500, -1_000_001, -2, -1,
	0, 1, 2, 999_999, 1_000_000, 3_037_000_499, 3_037_000_500, 1 << 32, math.MaxInt64/2 + 1, math.MaxInt64 - 1, math.MaxInt64,
}

func TestCreditsArithmeticAgreesWithBigIntegers(t *testing.T) {
	check := func(name string, a, b int64, got quota.Credits, err error, want *big.Int) {
		t.Helper()
		if want.IsInt64() {
			if assert.NoError(t, err, "%s %d %d", name, a, b) {
				assert.Equal(t, want.Int64(), int64(got), "%s %d %d", name, a, b)
			}
			return
		}
		assert.ErrorIs(t, err, quota.ErrOverflow, "%s %d %d", name, a, b)
		assert.ErrorIs(t, err, quota.ErrInvalid, "%s %d %d", name, a, b)
		assert.Zero(t, got, "%s %d %d", name, a, b)
	}
	pairs := make([][2]int64, 0, 2000)
	for _, a := range edges {
		for _, b := range edges {
			pairs = append(pairs, [2]int64{a, b})
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		pairs = append(pairs, [2]int64{int64(r.Uint64()) >> r.UintN(64), int64(r.Uint64()) >> r.UintN(64)})
	}
	for _, p := range pairs {
		a, b := p[0], p[1]
		x, y := big.NewInt(a), big.NewInt(b)
		got, err := quota.Credits(a).Add(quota.Credits(b))
		check("add", a, b, got, err, new(big.Int).Add(x, y))
		got, err = quota.Credits(a).Sub(quota.Credits(b))
		check("sub", a, b, got, err, new(big.Int).Sub(x, y))
		got, err = quota.Credits(a).Mul(b)
		check("mul", a, b, got, err, new(big.Int).Mul(x, y))
	}
}

func TestCreditsTextRoundTrip(t *testing.T) {
	for _, e := range edges {
		c := quota.Credits(e)
		got, err := quota.ParseCredits(c.String())
		require.NoError(t, err, "%d", e)
		assert.Equal(t, e, int64(got))

		text, err := c.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, c.String(), string(text))
		var back quota.Credits
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, c, back)

		appended, err := c.AppendText([]byte("x"))
		require.NoError(t, err)
		assert.Equal(t, "x"+c.String(), string(appended))
	}
}

func TestCreditsJSON(t *testing.T) {
	type request struct {
		Max   quota.Credits  `json:"max"`
		Alert *quota.Credits `json:"alert,omitempty"`
	}
	data, err := json.Marshal(request{Max: 2_050_000})
	require.NoError(t, err)
	assert.Equal(t, `{"max":"2.05"}`, string(data))

	for _, c := range []struct {
		in   string
		want quota.Credits
	}{
		{`"2.05"`, 2_050_000},
		{`2.05`, 2_050_000},
		{`0.1`, 100_000},
		{`9223372036854.775807`, quota.MaxCredits}, // binary floating point has no such number
		{`"9223372036854.775807"`, quota.MaxCredits},
		{`-1`, -quota.Credit},
		{`"\u0032.05"`, 2_050_000},
	} {
		var r request
		require.NoError(t, json.Unmarshal([]byte(`{"max":`+c.in+`}`), &r), c.in)
		assert.Equal(t, c.want, r.Max, c.in)
	}
	for _, in := range []string{
		`1e3`, `1.5E1`, `"1e3"`, `""`, `" 1"`, `"1 "`, `null`, `true`, `{}`, `[]`, `[1]`, `0.0000001`, `"+1"`, `"01"`, `1e-7`,
		`9223372036854.775808`, `1e999999999`, `"` + strings.Repeat("1", 1000) + `"`, strings.Repeat("1", 1000),
	} {
		r := request{Max: 7}
		err := json.Unmarshal([]byte(`{"max":`+in+`}`), &r)
		assert.ErrorIs(t, err, quota.ErrInvalid, in)
		assert.Equal(t, quota.Credits(7), r.Max, "%s changed the amount", in)
	}
	for _, in := range []string{``, `"`, `"1`, `1"`, `"1\"`, `"\`} { // not JSON, called directly
		c := quota.Credits(7)
		assert.ErrorIs(t, c.UnmarshalJSON([]byte(in)), quota.ErrInvalid, in)
		assert.Equal(t, quota.Credits(7), c, in)
	}
	var r request
	require.NoError(t, json.Unmarshal([]byte(`{"max":1,"alert":null}`), &r), "an amount that may be absent")
	assert.Nil(t, r.Alert)
}

func TestCreditsWhole(t *testing.T) {
	assert.Equal(t, int64(2), quota.Credits(2_999_999).Whole())
	assert.Equal(t, int64(0), quota.Credits(999_999).Whole())
	assert.Equal(t, int64(-2), quota.Credits(-2_999_999).Whole())
	assert.Equal(t, int64(9_223_372_036_854), quota.MaxCredits.Whole())
}

func TestCreditsDoNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 32)
	text := []byte("9223372036854.775807")
	var c quota.Credits
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		buf, _ = quota.Credits(math.MinInt64).AppendText(buf[:0])
		_ = c.UnmarshalText(text)
		c, _ = c.Sub(1)
	}))
}

func FuzzParseCredits(f *testing.F) {
	for _, s := range []string{"0", "-0", "2.05", "500", "0.000001", "9223372036854.775807", "-9223372036854.775808",
		"9223372036854.775808", "1e3", "00", ".5", "5.", "+1", "1.0000000", "", "\"1\"", "\x00", "1\u0660"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := quota.ParseCredits(s)
		var viaText quota.Credits
		textErr := viaText.UnmarshalText([]byte(s))
		if (err == nil) != (textErr == nil) || c != viaText {
			t.Fatalf("text and string differ: %v %v, %v %v", c, err, viaText, textErr)
		}
		if err != nil {
			if !errors.Is(err, quota.ErrInvalid) {
				t.Fatalf("wraps no sentinel: %v", err)
			}
			return
		}
		// Exactly the number that was written, as rationals have it.
		want, ok := new(big.Rat).SetString(s)
		if !ok || want.Cmp(big.NewRat(int64(c), int64(quota.Credit))) != 0 {
			t.Fatalf("%q read as %v", s, c)
		}
		shortest := c.String()
		if len(shortest) > len(s) && s != "-0" {
			t.Fatalf("%q printed longer, as %q", s, shortest)
		}
		again, err := quota.ParseCredits(shortest)
		if err != nil || again != c {
			t.Fatalf("%q printed as %q, read back as %v, %v", s, shortest, again, err)
		}
		var number, quoted quota.Credits
		if err := json.Unmarshal([]byte(s), &number); err != nil || number != c {
			t.Fatalf("%q as a JSON number: %v, %v", s, number, err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &quoted); err != nil || quoted != c {
			t.Fatalf("%s as a JSON string: %v, %v", data, quoted, err)
		}
	})
}

func BenchmarkCreditsAppendText(b *testing.B) {
	buf := make([]byte, 0, 32)
	for b.Loop() {
		buf, _ = quota.Credits(499_950_000).AppendText(buf[:0])
	}
}

func ExampleParseCredits() {
	price, err := quota.ParseCredits("0.01")
	if err != nil {
		fmt.Println(err)
		return
	}
	cost, err := price.Mul(205) // words
	fmt.Println(cost, err)

	_, err = quota.ParseCredits("1e3")
	fmt.Println(errors.Is(err, quota.ErrInvalid), err)
	// Output:
	// 2.05 <nil>
	// true quota: parse credits: "e" at byte 1, want a decimal such as 2.05, without exponent, sign or spaces: invalid
}

func ExampleCredits_Add() {
	sum, err := (2 * quota.Credit).Add(50_000)
	fmt.Println(sum, err)
	_, err = quota.MaxCredits.Add(1)
	fmt.Println(errors.Is(err, quota.ErrOverflow))
	// Output:
	// 2.05 <nil>
	// true
}
