package saccount

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds on what people write.
const (
	MaxName        = 100 // characters
	MaxDescription = 500 // characters
	MaxID          = 128 // bytes of an id that the host chooses
	MaxLabels      = 32
	MaxScopes      = 64
	MaxAllowFrom   = 64
	maxActor       = 200
	maxLabel       = 64
	maxLabelValue  = 256
)

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrInvalid}, args...)...)
}

// FieldError says which field of what was given is wrong. It matches
// ErrInvalid, and so does what it wraps, if anything.
type FieldError struct {
	// Field is a JSON pointer (RFC 6901) into what was given, by the names of
	// the records' JSON: "/name", "/labels/team", "/limits/credits".
	Field string
	// Reason says what is wrong and what to do. It names the field too.
	Reason string

	err error
}

// Error is the reason.
func (e *FieldError) Error() string { return ErrInvalid.Error() + " " + e.Reason }

// Is matches ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Unwrap is the refusal of another package, or nil.
func (e *FieldError) Unwrap() error { return e.err }

func fieldf(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// fieldOf is the pointer to a field and what lies in it.
func fieldOf(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(n))
	}
	return b.String()
}

// within says that an error is about a field, where it does not say so itself.
func within(field string, err error) error {
	if f := (*FieldError)(nil); err == nil || errors.As(err, &f) {
		return err
	}
	return &FieldError{Field: field, Reason: strings.TrimPrefix(err.Error(), ErrInvalid.Error()+" "), err: err}
}

// text checks what a person wrote, trimmed: its length in characters, and that
// it is UTF-8 without control characters and without those that turn the
// direction of what follows (which make one name look like another).
func text(field, s string, least, most int) (string, error) {
	if !utf8.ValidString(s) {
		return "", fieldf(fieldOf(field), "%s: it is not valid UTF-8", field)
	}
	s = strings.TrimSpace(s)
	if n := utf8.RuneCountInString(s); n < least || n > most {
		return "", fieldf(fieldOf(field), "%s: %d characters; give %d to %d", field, n, least, most)
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return "", fieldf(fieldOf(field), "%s: it has a control or direction character (%U); leave it out", field, r)
		}
	}
	return s, nil
}

// checkID checks an id that the host chooses. Ids are kept byte by byte, so
// nothing is trimmed.
func checkID(field, s string) error {
	t, err := text(field, s, 1, MaxID)
	if err != nil {
		err.(*FieldError).Field = "/id"
		return err
	}
	if t != s || len(s) > MaxID {
		return fieldf("/id", "%s: give 1 to %d bytes without spaces around them", field, MaxID)
	}
	return nil
}

func checkActor(a Actor) error {
	if t, err := text("actor", string(a), 1, maxActor); err != nil {
		return err
	} else if t != string(a) {
		return invalidf("actor: it has spaces around it")
	}
	return nil
}

// saysNothing are names that tell nobody what the thing is for.
var saysNothing = regexp.MustCompile(`(?i)^(?:(?:my|new|the)?[ _-]*(?:test|tests|testing|key|keys|api[ _-]?key|apikey|token|account|service[ _-]?account|sa|foo|bar|baz|temp|tmp|default|untitled|name|abc|asdf|qwerty|xxx*|a|x)[ _#-]*\d*|\d+)$`)

// AdviseName gives advice on a name that says nothing, as Account.Advice and
// Key.Advice do: nil where all is well.
func AdviseName(name string) []string {
	if !saysNothing.MatchString(name) {
		return nil
	}
	return []string{fmt.Sprintf("the name %q does not say what this is for; a name such as %q is found again", name, "Production Worker")}
}

func checkLabels(l map[string]string) error {
	if len(l) > MaxLabels {
		return fieldf("/labels", "labels: %d; at most %d", len(l), MaxLabels)
	}
	for k, v := range l {
		t, err := text("label", k, 1, maxLabel)
		if err == nil && t != k {
			err = fieldf("", "label %q: it has spaces around it", k)
		}
		if err == nil {
			_, err = text("label "+k, v, 0, maxLabelValue)
		}
		if err != nil {
			err.(*FieldError).Field = fieldOf("labels", k)
			return err
		}
	}
	return nil
}

var environment = regexp.MustCompile(`^[a-z0-9_-]{0,32}$`)

func checkEnvironment(s string) error {
	if !environment.MatchString(s) {
		return fieldf("/environment", `environment %.40q: use up to 32 of a-z, 0-9, "-" and "_"`, s)
	}
	return nil
}

// checkScopes holds scopes to the scope-token of RFC 6749, section 3.3.
func checkScopes(scopes []string) ([]string, error) {
	if len(scopes) > MaxScopes {
		return nil, fieldf("/scopes", "scopes: %d; at most %d", len(scopes), MaxScopes)
	}
	out := slices.Clone(scopes)
	slices.Sort(out)
	for i, s := range out {
		ok := len(s) >= 1 && len(s) <= 64
		for j := 0; ok && j < len(s); j++ {
			ok = s[j] > ' ' && s[j] < 0x7f && s[j] != '"' && s[j] != '\\'
		}
		if !ok {
			return nil, fieldf("/scopes", "scope %.70q: use 1 to 64 printable ASCII characters without spaces, quotes and backslashes", s)
		}
		if i > 0 && out[i-1] == s {
			return nil, fieldf("/scopes", "scope %q is given twice", s)
		}
	}
	return out, nil
}

func checkAllowFrom(ps []netip.Prefix) ([]netip.Prefix, error) {
	if len(ps) > MaxAllowFrom {
		return nil, fieldf("/allow_from", "allowlist: %d ranges; at most %d", len(ps), MaxAllowFrom)
	}
	out := make([]netip.Prefix, 0, len(ps))
	for _, p := range ps {
		if !p.IsValid() {
			return nil, fieldf("/allow_from", "allowlist: %q is no range of addresses; write 203.0.113.0/24 or 2001:db8::/32", p)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fieldf("/allow_from", "allowlist: %s mixes IPv4 and IPv6; write the IPv4 range by itself", p)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func checkRate(r *RateLimit) (*RateLimit, error) {
	if r == nil || *r == (RateLimit{}) {
		return nil, nil
	}
	c := *r
	if !(c.PerSecond > 0 && c.PerSecond <= 1e6) {
		return nil, fieldf("/rate", "rate limit: %v a second; give more than 0, at most 1000000", c.PerSecond)
	}
	if c.Burst == 0 {
		c.Burst = int(c.PerSecond)
		if float64(c.Burst) < c.PerSecond {
			c.Burst++
		}
	}
	if c.Burst < 1 || c.Burst > 1e6 {
		return nil, fieldf("/rate", "rate limit: a burst of %d; give 1 to 1000000", c.Burst)
	}
	return &c, nil
}

// checkExpiry holds an expiry to the greatest lifetime, the host's and the
// organization's.
func (s *Service) checkExpiry(p *KeyPolicy, expires, created, now time.Time) (time.Time, error) {
	longest := s.lifetime(p)
	if expires.IsZero() {
		if longest > 0 {
			return Micro(created.Add(longest)), nil
		}
		return expires, nil
	}
	if !expires.After(now) {
		return expires, fieldf("/expires", "expiry %s: it is in the past", expires.UTC().Format(time.RFC3339))
	}
	if longest > 0 && expires.After(created.Add(longest)) {
		return expires, fieldf("/expires", "expiry %s: a key lives at most %v", expires.UTC().Format(time.RFC3339), longest)
	}
	if expires.Year() > 9999 {
		return expires, fieldf("/expires", "expiry: after the year 9999; leave it out for never")
	}
	return Micro(expires), nil
}
