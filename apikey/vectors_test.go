package apikey_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/apikey"
)

type vectorFile struct {
	Alphabet string `json:"alphabet"`
	Peppers  []struct {
		ID     string `json:"id"`
		KeyHex string `json:"key_hex"`
	} `json:"peppers"`
	Valid []struct {
		Note     string `json:"note"`
		Prefix   string `json:"prefix"`
		Token    string `json:"token"`
		ID       string `json:"id"`
		Secret   string `json:"secret"`
		Checksum string `json:"checksum"`
		CRC32Hex string `json:"crc32_hex"`
		Masked   string `json:"masked"`
		Hashes   []struct {
			Pepper string `json:"pepper"`
			SumHex string `json:"sum_hex"`
			Text   string `json:"text"`
		} `json:"hashes"`
	} `json:"valid"`
	Invalid []struct {
		Prefix string `json:"prefix"`
		Token  string `json:"token"`
		Reason string `json:"reason"`
	} `json:"invalid"`
}

func readVectors(t testing.TB) vectorFile {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	require.NoError(t, err)
	var v vectorFile
	require.NoError(t, json.Unmarshal(data, &v))
	require.NotEmpty(t, v.Valid)
	require.NotEmpty(t, v.Invalid)
	require.NotEmpty(t, v.Peppers)
	return v
}

// The vectors agree with the standard library alone, and the package with them.
func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	assert.Equal(t, base62, vectors.Alphabet)

	keys := map[string][]byte{}
	hashers := map[string]*apikey.Hasher{"": mustHasher(t)}
	for _, p := range vectors.Peppers {
		key, err := hex.DecodeString(p.KeyHex)
		require.NoError(t, err)
		keys[p.ID] = key
		hashers[p.ID] = mustHasher(t, apikey.Pepper{ID: p.ID, Key: key})
	}

	for _, v := range vectors.Valid {
		t.Run(v.Note, func(t *testing.T) {
			require.Equal(t, v.Prefix+"_"+v.ID+v.Secret+v.Checksum, v.Token)
			before := v.Prefix + "_" + v.ID + v.Secret
			require.Equal(t, v.CRC32Hex, fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(before))))
			require.Equal(t, v.Checksum, checksumOf(before))

			prefix := mustPrefix(t, v.Prefix)
			parsed, err := apikey.Parse(v.Token, prefix)
			require.NoError(t, err)
			assert.Equal(t, v.ID, parsed.ID)
			assert.True(t, apikey.ValidID(v.ID))
			assert.Equal(t, v.Masked, v.Prefix+"_"+v.ID)

			made, err := apikey.Generate(bytesFor(t, v.Secret), prefix, v.ID)
			require.NoError(t, err)
			assert.Equal(t, v.Token, made.Reveal())
			assert.Equal(t, v.Masked, made.Masked())

			require.Len(t, v.Hashes, len(hashers))
			for _, want := range v.Hashes {
				sum := sha256.Sum256([]byte(v.Secret))
				if want.Pepper != "" {
					mac := hmac.New(sha256.New, keys[want.Pepper])
					mac.Write([]byte(v.Secret))
					sum = [32]byte(mac.Sum(nil))
				}
				require.Equal(t, want.SumHex, hex.EncodeToString(sum[:]))

				got := hashers[want.Pepper].Hash(parsed)
				assert.Equal(t, apikey.Hash{Pepper: want.Pepper, Sum: sum}, got)
				assert.Equal(t, want.Text, got.String())
				stored, err := apikey.ParseHash(want.Text)
				require.NoError(t, err)
				ok, stale := hashers[want.Pepper].Verify(made.Parsed(), stored)
				assert.True(t, ok)
				assert.False(t, stale)
			}
		})
	}
	for _, v := range vectors.Invalid {
		t.Run(v.Reason, func(t *testing.T) {
			refused(t, v.Token, mustPrefix(t, v.Prefix), v.Reason)
		})
	}
}
