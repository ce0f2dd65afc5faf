package apikey_test

import (
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

func mustPrefix(t testing.TB, s string) apikey.Prefix {
	t.Helper()
	p, err := apikey.ParsePrefix(s)
	require.NoError(t, err)
	return p
}

func mustGenerate(t testing.TB, p apikey.Prefix) apikey.Token {
	t.Helper()
	token, err := apikey.Generate(nil, p, "")
	if err != nil { // called for every one of many tokens: no reflection
		t.Fatal(err)
	}
	return token
}

func mustHasher(t testing.TB, peppers ...apikey.Pepper) *apikey.Hasher {
	t.Helper()
	h, err := apikey.NewHasher(peppers...)
	require.NoError(t, err)
	return h
}

// fakePepper makes a key that differs for every id.
func fakePepper(id string) apikey.Pepper {
	key := sha256.Sum256([]byte("a pepper for tests only: " + id))
	return apikey.Pepper{ID: id, Key: key[:]}
}
