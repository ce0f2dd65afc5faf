package middleware

import (
	"net/http"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// maxSFInteger is the greatest integer of RFC 9651, 3.3.1.
const maxSFInteger = 999_999_999_999_999

// setRateLimit sets RateLimit-Policy and RateLimit as
// draft-ietf-httpapi-ratelimit-headers has them: an item for every limit that
// refuses, the caller's own first, named as in violated-policies. Credits are
// whole, rounded down; since they are no registered unit of the draft, a
// parameter of our own says so.
func setRateLimit(h http.Header, limits []quota.LimitStatus, now time.Time) {
	const item = 80 // bytes, about
	policy, state := make([]byte, 0, item*len(limits)), make([]byte, 0, item/2*len(limits))
	for i := range limits {
		l := &limits[i]
		if l.Soft {
			continue
		}
		if len(policy) > 0 {
			policy, state = append(policy, ", "...), append(state, ", "...)
		}
		policy, state = appendName(policy, l), appendName(state, l)
		policy = appendInt(append(policy, ";q="...), l.Max.Whole())
		state = appendInt(append(state, ";r="...), l.Remaining.Whole())
		if !l.ResetAt.IsZero() {
			policy = appendInt(append(policy, ";w="...), max(1, seconds(l.ResetAt.Sub(l.Start))))
			state = appendInt(append(state, ";t="...), seconds(l.ResetAt.Sub(now)))
		}
		policy = append(policy, `;keypurse-unit="credits"`...)
	}
	if len(policy) > 0 {
		h["Ratelimit-Policy"], h["Ratelimit"] = []string{string(policy)}, []string{string(state)}
	}
}

// appendName writes a structured-field string. The names of levels and limits
// have no character that would need a backslash.
func appendName(b []byte, l *quota.LimitStatus) []byte {
	b = append(b, '"')
	b = append(b, l.Subject.Kind()...)
	b = append(b, ':')
	b = append(b, l.Limit...)
	return append(b, '"')
}

func appendInt(b []byte, n int64) []byte {
	return strconv.AppendInt(b, min(max(n, 0), maxSFInteger), 10)
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
