package web

import "net/http"

// MaxClientID bounds a client's own id. With what goes before it, it is within
// quota.MaxIDLen.
const MaxClientID = 128

// IdempotencyKey reads the header of this canonical name
// (draft-ietf-httpapi-idempotency-key-header). id is empty where it was not
// sent; why says what is wrong with it.
func IdempotencyKey(h http.Header, name string) (id, why string) {
	switch lines := h[name]; len(lines) {
	case 0:
		return "", ""
	case 1:
		return ClientID(lines[0])
	}
	return "", "it was sent more than once"
}

// ClientID reads the value of an Idempotency-Key header: a structured-field
// string (RFC 9651, 3.3.3), as the draft wants it, or the bare characters that
// most clients send. Both forms of one id are the same id.
func ClientID(v string) (id, why string) {
	if len(v) > 2*MaxClientID+2 {
		return "", "it is too long, give at most 128 characters"
	}
	if len(v) > 0 && v[0] == '"' {
		if len(v) < 2 || v[len(v)-1] != '"' {
			return "", "its closing quote is missing"
		}
		b := make([]byte, 0, len(v))
		for i := 1; i < len(v)-1; i++ {
			c := v[i]
			switch {
			case c == '\\':
				i++
				if c = v[i]; i == len(v)-1 || c != '"' && c != '\\' {
					return "", "a backslash in it stands before neither a quote nor a backslash"
				}
			case c == '"':
				return "", "a quote stands in the middle of it"
			}
			b = append(b, c)
		}
		v = string(b)
	}
	if v == "" || len(v) > MaxClientID {
		return "", "give 1 to 128 characters"
	}
	for i := range len(v) {
		if v[i] < 0x20 || v[i] > 0x7e {
			return "", "give printable ASCII characters only"
		}
	}
	return v, ""
}
