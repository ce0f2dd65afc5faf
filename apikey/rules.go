package apikey

import (
	"fmt"
	"strings"
)

// Pattern returns the one regular expression (RE2, also good for PCRE and
// Hyperscan) that finds tokens of this prefix in text; empty for the zero
// Prefix. What it matches is the token and nothing around it.
//
// It starts and ends at a word boundary: a letter, a digit or an underscore
// right before or after a token hides it, as in x_acme_live_… or in the escape
// \nacme_live_… of a source file. Quotes, brackets, punctuation, white space
// and the ends of the text do not. The first character of the checksum is 0 to
// 4, as 32 bits reach no further; whether the checksum is right needs [Parse].
func Pattern(p Prefix) string {
	if p == (Prefix{}) {
		return ""
	}
	return fmt.Sprintf(`\b%s[0-9A-Za-z]{%d}[0-4][0-9A-Za-z]{%d}\b`, p.lead, payloadLen, ChecksumLen-1)
}

// ruleEntropy is the Shannon entropy in bits for a character below which a
// match is taken for a placeholder. Random tokens have more than 5.
const ruleEntropy = 4

// GitleaksRule returns a rule for tokens of this prefix, to be appended to a
// .gitleaks.toml; empty for the zero Prefix.
func GitleaksRule(p Prefix) string {
	if p == (Prefix{}) {
		return ""
	}
	return fmt.Sprintf(`[[rules]]
id = "%s"
description = "An API key of %s: end it where it was issued, then take it out of the history."
regex = '''%s'''
entropy = %d
keywords = ["%s"]
`, ruleName(p), p, Pattern(p), ruleEntropy, p.lead)
}

// TruffleHogRule returns a custom detector for tokens of this prefix, to be
// given to trufflehog with --config; empty for the zero Prefix. It verifies
// nothing: add a verify endpoint of your own to have live keys told from dead
// ones.
func TruffleHogRule(p Prefix) string {
	if p == (Prefix{}) {
		return ""
	}
	return fmt.Sprintf(`detectors:
  - name: %s
    keywords:
      - %s
    regex:
      token: '%s'
    entropy: %d
`, ruleName(p), p.lead, Pattern(p), ruleEntropy)
}

func ruleName(p Prefix) string {
	return strings.ReplaceAll(p.String(), "_", "-") + "-api-key"
}
