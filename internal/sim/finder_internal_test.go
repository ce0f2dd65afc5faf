package sim

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFinder(t *testing.T) {
	secret := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop0"
	f := newFinder([]string{secret, strings.Repeat("z", 43)})
	for text, found := range map[string]bool{
		"":                                      false,
		`{"token":"` + secret + `"}`:            true,
		"sim_0123456789abcdef" + secret + "xyz": true,
		"a part: " + secret[5:28] + ".":         true,
		"masked: sim_0123456789abcdef":          false,
		secret[:11]:                             false,
	} {
		assert.Equal(t, found, f.find([]byte(text)) != "", text)
	}
}
