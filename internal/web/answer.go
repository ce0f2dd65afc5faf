package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ProblemType is the media type of problem details (RFC 9457).
const ProblemType = "application/problem+json"

// The problem types of draft-ietf-httpapi-ratelimit-headers, and that of none.
const (
	TypeBlank    = "about:blank"
	TypeQuota    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	TypeAbnormal = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
	TypeReduced  = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// RetryAfter is a wait in the seconds of a Retry-After header, rounded up.
func RetryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait-1)/time.Second+1), 10)
}

// Challenge is the value of a WWW-Authenticate header (RFC 6750, 3). code and
// scope may be empty; detail goes with a code only.
func Challenge(realm, code, detail, scope string) string {
	var b strings.Builder
	b.WriteString("Bearer realm=")
	quoted(&b, realm)
	if code != "" {
		b.WriteString(", error=")
		quoted(&b, code)
		b.WriteString(", error_description=")
		quoted(&b, detail)
	}
	if scope != "" {
		b.WriteString(", scope=")
		quoted(&b, scope)
	}
	return b.String()
}

// quoted writes a quoted-string of RFC 9110, 5.6.4.
func quoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c > 0x7e:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
}

// Write answers a request with a whole body, which a HEAD does not get.
func Write(w http.ResponseWriter, r *http.Request, status int, mediaType string, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{mediaType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
}
