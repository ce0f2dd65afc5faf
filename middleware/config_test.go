package middleware_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/saccount/saccounttest"
)

func TestConfigIsChecked(t *testing.T) {
	h := saccounttest.New(t)
	for field, cfgs := range map[string][]middleware.Config{
		"Cost":              {{Cost: middleware.Fixed(-1)}, {Cost: middleware.Computed(nil)}, {Cost: middleware.UpTo(nil)}},
		"Scopes":            {{Scopes: []string{""}}, {Scopes: []string{"a b"}}, {Scopes: []string{`a"`}}, {Scopes: []string{"ä"}}, {Scopes: []string{strings.Repeat("a", 65)}}, {Scopes: make([]string, 65)}},
		"HoldTTL":           {{HoldTTL: -1}, {HoldTTL: time.Millisecond}, {HoldTTL: quota.MaxTTL + 1}},
		"Realm":             {{Realm: "a\r\nSet-Cookie: x"}, {Realm: "ä"}, {Realm: "\x00"}, {Realm: strings.Repeat("a", 129)}},
		"IdempotencyHeader": {{IdempotencyHeader: "Idempotency Key"}, {IdempotencyHeader: "a:"}, {IdempotencyHeader: strings.Repeat("a", 65)}},
		"TrustedProxies":    {{TrustedProxies: prefixes("::ffff:0.0.0.0/1")}},
	} {
		for _, cfg := range cfgs {
			mw, err := middleware.New(h.Service, cfg)
			require.ErrorIs(t, err, saccount.ErrInvalid, "%s: %+v", field, cfg)
			assert.ErrorContains(t, err, field)
			assert.Nil(t, mw)
		}
	}
	_, err := middleware.New(nil, middleware.Config{})
	require.ErrorIs(t, err, saccount.ErrInvalid)
}

// TestConfigIsCopied: what a caller does to its slices afterwards changes nothing.
func TestConfigIsCopied(t *testing.T) {
	h := saccounttest.New(t)
	scopes, nets := []string{"a"}, prefixes("127.0.0.0/8")
	s := listen(t, wrap(t, h, middleware.Config{Scopes: scopes, TrustedProxies: nets}, okay))
	token := h.Token(saccounttest.Spec{Key: saccount.KeySpec{Scopes: []string{"a"}, AllowFrom: prefixes("198.51.100.0/24")}})
	scopes[0], nets[0] = "b", prefixes("192.0.2.0/24")[0]
	assert.Equal(t, 200, get(t, s, token, "X-Forwarded-For", "198.51.100.1").status)
}
