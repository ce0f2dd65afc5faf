package apikey_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

// rule is what a scanner reads out of a rule's text.
type rule struct {
	name    string
	regex   *regexp.Regexp
	keyword string
	entropy float64
}

func readRule(t testing.TB, text, name, regex, keyword, entropy string) rule {
	t.Helper()
	field := func(pattern string) string {
		found := regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(text, -1)
		require.Len(t, found, 1, "%s in\n%s", pattern, text)
		return found[0][1]
	}
	r := rule{name: field(name), regex: regexp.MustCompile(field(regex)), keyword: field(keyword)}
	_, err := fmt.Sscan(field(entropy), &r.entropy)
	require.NoError(t, err)
	return r
}

func rulesOf(t testing.TB, p apikey.Prefix) map[string]rule {
	t.Helper()
	return map[string]rule{
		"gitleaks": readRule(t, apikey.GitleaksRule(p),
			`^id = "([^"]+)"$`, `^regex = '''(.+)'''$`, `^keywords = \["([^"]+)"\]$`, `^entropy = ([0-9.]+)$`),
		"TruffleHog": readRule(t, apikey.TruffleHogRule(p),
			`^  - name: ([a-z0-9-]+)$`, `^      token: '([^']+)'$`, `^      - ([a-z0-9_]+)$`, `^    entropy: ([0-9.]+)$`),
	}
}

// finds does what both scanners do: keyword, expression, entropy.
func (r rule) finds(text string) []string {
	if !strings.Contains(strings.ToLower(text), r.keyword) {
		return nil
	}
	var found []string
	for _, m := range r.regex.FindAllString(text, -1) {
		if shannon(m) > r.entropy {
			found = append(found, m)
		}
	}
	return found
}

// shannon is the entropy in bits for a character.
func shannon(s string) (bits float64) {
	var counts [256]float64
	for i := range len(s) {
		counts[s[i]]++
	}
	for _, n := range counts {
		if n > 0 {
			p := n / float64(len(s))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

func TestRulesFindEveryToken(t *testing.T) {
	const tokens = 100_000
	p := mustPrefix(t, "acme_live")
	rules := rulesOf(t, p)
	pattern := regexp.MustCompile(apikey.Pattern(p))
	require.Len(t, rules, 2)
	for name, r := range rules {
		require.Equal(t, pattern.String(), r.regex.String(), name)
		require.Equal(t, "acme-live-api-key", r.name)
		require.Equal(t, "acme_live_", r.keyword)
	}
	missed, least := 0, math.Inf(1)
	for range tokens {
		text := mustGenerate(t, p).Reveal()
		least = min(least, shannon(text))
		if pattern.FindString("key="+text+"\n") != text {
			missed++
		}
	}
	assert.Zero(t, missed)
	for name, r := range rules {
		assert.Greater(t, least, r.entropy, name)
	}
	t.Logf("the least entropy of %d tokens is %.2f bits for a character", tokens, least)
}

func TestRulesInSource(t *testing.T) {
	for _, prefix := range []string{"a", "acme", "acme_live", strings.Repeat("a", 32)} {
		p := mustPrefix(t, prefix)
		token := mustGenerate(t, p).Reveal()
		second := mustGenerate(t, p).Reveal()
		found := []string{
			"%s", "KEY=%s", "KEY=%s\r\n", `key := "%s"`, `const key = '%s';`, "`%s`", "Authorization: Bearer %s",
			`curl -H "Authorization: Bearer %s" https://example.com`, `{"key":"%s"}`, `{\"key\":\"%s\"}`, "key: %s # production",
			"https://user:%s@example.com/", "https://example.com/?key=%s&page=1", "<key>%s</key>", "[%s]", "(%s).", "%s,", "\t%s\t",
			"KEY=%s\\nOTHER=1", "key-%s-old", "«%s»", "+ %s", "\x00%s\x00",
		}
		hidden := []string{
			"x%s", "%sx", "9%s", "%s0", "_%s", "%s_", `\n%s`,
		}
		placeholder := prefix + "_" + strings.Repeat("x", 59) + "000000"
		for name, r := range rulesOf(t, p) {
			for _, line := range found {
				source := "package main\n// " + fmt.Sprintf(line, token) + "\n"
				assert.Equal(t, []string{token}, r.finds(source), "%s: %q", name, line)
				source = fmt.Sprintf(line, token) + "\n" + fmt.Sprintf(line, second)
				assert.Equal(t, []string{token, second}, r.finds(source), "%s: two of %q", name, line)
			}
			assert.Equal(t, []string{token, second}, r.finds(token+" "+second), "one character between two")
			for _, line := range hidden {
				assert.Empty(t, r.finds(fmt.Sprintf(line, token)), "%s: documented as hidden: %q", name, line)
			}
			for _, s := range []string{
				placeholder, token[:len(token)-1], prefix + "_" + token[len(prefix)+1:len(prefix)+17], strings.ToUpper(token),
				"another_" + token[len(prefix)+1:], token[:len(token)-6] + "5" + token[len(token)-5:],
			} {
				assert.Empty(t, r.finds("key = "+s), "%s: %s", name, s)
			}
		}
	}
}

func TestRulesOfNoPrefix(t *testing.T) {
	var zero apikey.Prefix
	assert.Empty(t, apikey.Pattern(zero))
	assert.Empty(t, apikey.GitleaksRule(zero))
	assert.Empty(t, apikey.TruffleHogRule(zero))
}
