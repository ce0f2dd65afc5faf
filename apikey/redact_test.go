package apikey_test

import (
	"bytes"
	"database/sql/driver"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

const (
	fakeID = "FakeKeyId0000002"
	// No few bytes of it come twice or in the id, so none are mistaken for it.
	fakeSecret = "GHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
)

// leaks lists the forms in which bytes would show in text: as they are, in hex
// of both cases, as numbers in a list, quoted.
func leaks(secret string) []string {
	var decimals, hexes []string
	for _, b := range []byte(secret) {
		decimals = append(decimals, fmt.Sprint(b))
		hexes = append(hexes, fmt.Sprintf("%#x", b))
	}
	return []string{
		secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		strings.Join(decimals, " "), strings.Join(decimals, ", "), strings.Join(decimals, ","), strings.Join(hexes, ", "),
	}
}

// assertNoSecret looks for any 6 bytes in a row of secret.
func assertNoSecret(t *testing.T, out, secret, how string) {
	t.Helper()
	for i := 0; i+6 <= len(secret); i++ {
		for _, form := range leaks(secret[i : i+6]) {
			if strings.Contains(out, form) {
				t.Errorf("%s prints the secret: %s", how, out)
				return
			}
		}
	}
}

type (
	holder[T any] struct{ Field T }
	// fmt cannot call the methods of what is in here.
	hider[T any]   struct{ field T }
	pointer[T any] struct{ Field *T }
)

// printed prints a value in every way of the standard library that a program
// is likely to use by mistake.
func printed[T any](t *testing.T, value T) map[string]string {
	t.Helper()
	out := map[string]string{}
	values := map[string]any{
		"value": value, "pointer": &value, "struct": holder[T]{value}, "pointer to struct": &holder[T]{value},
		"unexported field": hider[T]{value}, "pointer to unexported field": &hider[T]{value}, "field pointer": pointer[T]{&value},
		"slice": []T{value}, "slice of any": []any{value}, "array": [1]T{value},
		"map": map[string]T{"key": value}, "map of any": map[any]any{"key": value},
		"deep": map[string][]holder[hider[*T]]{"key": {{hider[*T]{&value}}}}, "interface field": hider[any]{value},
	}
	for in, v := range values {
		for _, verb := range []string{
			"%v", "%+v", "%#v", "%s", "%q", "%+q", "%#q", "%x", "%X", "% x", "%# x", "%d", "%t", "%c", "%U", "%b", "%o", "%O",
			"%e", "%g", "%p", "%T", "%w", "%z", "%100v", "%-5.3s", "%!", "%[1]*v",
		} {
			out["fmt "+verb+" of "+in] = fmt.Sprintf(verb, v)
		}
		out["print of "+in] = fmt.Sprint(v) + fmt.Sprintln(v)
		out["panic of "+in] = func() (s string) {
			defer func() { s = fmt.Sprint(recover()) }()
			panic(v)
		}()
		out["error of "+in] = fmt.Errorf("failed for %v: %w", v, errors.New("reason")).Error()

		var text, lines, page bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("message", "key", v, slog.Group("group", slog.Any("inner", v)))
		slog.New(slog.NewJSONHandler(&lines, nil)).Info("message", "key", v, slog.Group("group", slog.Any("inner", v)))
		out["slog text of "+in], out["slog JSON of "+in] = text.String(), lines.String()
		require.NoError(t, template.Must(template.New("").Parse("{{.}} {{printf `%#v` .}}")).Execute(&page, v))
		out["template of "+in] = page.String()

		if b, err := json.Marshal(v); err == nil {
			out["JSON of "+in] = string(b)
		} else {
			out["JSON of "+in] = err.Error()
		}
		if b, err := xml.Marshal(v); err == nil {
			out["XML of "+in] = string(b)
		} else {
			out["XML of "+in] = err.Error()
		}
		var stream bytes.Buffer
		if err := gob.NewEncoder(&stream).Encode(v); err != nil {
			stream.WriteString(err.Error())
		}
		out["gob of "+in] = stream.String()
	}
	return out
}

func TestTokenIsRedacted(t *testing.T) {
	token, err := apikey.Generate(bytesFor(t, fakeSecret), mustPrefix(t, "acme_live"), fakeID)
	require.NoError(t, err)
	masked := "acme_live_" + fakeID
	require.Equal(t, masked, token.Masked())
	require.Contains(t, token.Reveal(), fakeSecret)

	out := printed(t, token)
	for how, s := range out {
		assertNoSecret(t, s, fakeSecret, how)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		assert.Equal(t, masked, out["fmt "+verb+" of value"])
		assert.Equal(t, masked, out["fmt "+verb+" of pointer"])
	}
	assert.Equal(t, "{"+masked+"}", out["fmt %v of struct"])
	assert.Equal(t, `"`+masked+`"`, out["JSON of value"])
	assert.Equal(t, `{"Field":"`+masked+`"}`, out["JSON of struct"])
	assert.Contains(t, out["slog text of value"], " key="+masked+" group.inner="+masked)
	assert.Contains(t, out["slog JSON of value"], `"key":"`+masked+`"`)
	assert.Equal(t, masked, token.String())
	assert.Equal(t, masked, token.GoString())
	text, err := token.MarshalText()
	require.NoError(t, err)
	assert.Equal(t, masked, string(text))
	assertSQL(t, token, masked)

	// One that is read from JSON is refused, not half filled.
	var read holder[apikey.Token]
	assert.Error(t, json.Unmarshal([]byte(`{"Field":"`+token.Reveal()+`"}`), &read))
	assert.Equal(t, apikey.Token{}, read.Field)
}

func TestParsedIsRedacted(t *testing.T) {
	p := mustPrefix(t, "acme_live")
	token, err := apikey.Generate(bytesFor(t, fakeSecret), p, fakeID)
	require.NoError(t, err)
	parsed, err := apikey.Parse(token.Reveal(), p)
	require.NoError(t, err)

	out := printed(t, parsed)
	for how, s := range out {
		assertNoSecret(t, s, fakeSecret, how)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		assert.Equal(t, fakeID, out["fmt "+verb+" of value"])
	}
	assert.Equal(t, `"`+fakeID+`"`, out["JSON of value"])
	assert.Contains(t, out["slog text of value"], " key="+fakeID+" group.inner="+fakeID)
	assert.Equal(t, fakeID, parsed.String())
	assert.Equal(t, fakeID, parsed.GoString())
	text, err := parsed.MarshalText()
	require.NoError(t, err)
	assert.Equal(t, fakeID, string(text))
	assertSQL(t, parsed, fakeID)
}

func TestPepperAndHasherAreRedacted(t *testing.T) {
	const key = "not a pepper: for this test only"
	pepper := apikey.Pepper{ID: "2026", Key: []byte(key)}
	open := []string{"unexported field", "interface field", "deep", "%p", "%w", "gob"}
	for how, s := range printed(t, pepper) {
		// Its key is exported, for the host to fill in. Where fmt cannot or will
		// not call methods (unexported fields, and the verbs that go vet
		// refuses) it prints exported fields, as the type's comment says.
		if !slices.ContainsFunc(open, func(s string) bool { return strings.Contains(how, s) }) {
			assertNoSecret(t, s, key, how)
		}
	}
	assert.Equal(t, "2026", fmt.Sprintf("%#v", pepper))
	assert.Equal(t, "2026", pepper.String())
	assert.Equal(t, "2026", pepper.GoString())
	text, err := pepper.MarshalText()
	require.NoError(t, err)
	assert.Equal(t, "2026", string(text))
	assertSQL(t, pepper, "2026")

	h := mustHasher(t, pepper)
	h.Dummy(apikey.Parsed{})
	for how, s := range printed(t, h) {
		assertNoSecret(t, s, key, how)
	}
}

func assertSQL(t *testing.T, v driver.Valuer, want string) {
	t.Helper()
	got, err := v.Value()
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = driver.DefaultParameterConverter.ConvertValue(v)
	require.NoError(t, err)
	assert.Equal(t, want, got, "what database/sql sends")
}

// Errors name neither the input that was refused nor a key.
func TestErrorsHoldNoSecret(t *testing.T) {
	token, err := apikey.Generate(bytesFor(t, fakeSecret), mustPrefix(t, "acme_live"), fakeID)
	require.NoError(t, err)
	text := token.Reveal()

	_, parseErr := apikey.Parse(text, mustPrefix(t, "acme_test"))
	_, prefixErr := apikey.ParsePrefix(text)
	_, idErr := apikey.Generate(nil, mustPrefix(t, "acme"), text)
	_, hashErr := apikey.ParseHash(text)
	_, digitsErr := apikey.ParseHash("sha256:" + text)
	_, keyErr := apikey.NewHasher(apikey.Pepper{ID: "2026", Key: []byte(fakeSecret[:31])})
	_, pepperErr := apikey.NewHasher(apikey.Pepper{ID: text, Key: []byte(text)})
	for _, err := range []error{parseErr, prefixErr, idErr, hashErr, digitsErr, keyErr, pepperErr} {
		require.Error(t, err)
		assertNoSecret(t, fmt.Sprintf("%v %+v %#v", err, err, err), fakeSecret, "an error")
	}
}
