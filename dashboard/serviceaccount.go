package dashboard

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/saccount"
)

// fromServiceAccount reports whether the request carries anything that is
// shaped like a token of the Service, in any header or in the query, or was
// authenticated with a key before it came here.
func (c *call) fromServiceAccount() bool {
	if p, ok := saccount.FromContext(c.ctx); ok && p.KeyID() != "" {
		return true
	}
	lead := c.svc.Prefix().String() + "_"
	if anyShaped(c.r.Header, lead) {
		return true
	}
	q := c.r.URL.RawQuery
	if plain, err := url.QueryUnescape(q); err == nil {
		q = plain
	}
	return shaped(q, lead)
}

func anyShaped(h http.Header, lead string) bool {
	for _, lines := range h {
		for _, v := range lines {
			if shaped(v, lead) || shapedBasic(v, lead) {
				return true
			}
		}
	}
	return false
}

const bodyLen = apikey.IDLen + apikey.SecretLen + apikey.ChecksumLen

// shaped reports whether s holds something with the prefix, the length and the
// alphabet of a token. The checksum is not asked: a mistyped token is none the
// less one.
func shaped(s, lead string) bool {
	for {
		i := strings.Index(s, lead)
		if i < 0 {
			return false
		}
		s = s[i+len(lead):]
		if len(s) >= bodyLen && base62(s[:bodyLen]) {
			return true
		}
	}
}

// shapedBasic is shaped for the user and the password of basic authentication
// (RFC 7617).
func shapedBasic(s, lead string) bool {
	const scheme = "basic "
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s[len(scheme):]))
	return err == nil && shaped(string(b), lead)
}

func base62(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
