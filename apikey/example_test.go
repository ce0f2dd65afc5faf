package apikey_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/keypurse/keypurse/apikey"
)

// A key is made, shown once, stored as a hash and checked.
func Example() {
	prefix, err := apikey.ParsePrefix("acme_live")
	if err != nil {
		fmt.Println(err)
		return
	}
	hasher, err := apikey.NewHasher(apikey.Pepper{ID: "2026", Key: []byte("32 random bytes from your vault.")})
	if err != nil {
		fmt.Println(err)
		return
	}

	token, err := apikey.Generate(nil, prefix, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	stored := map[string]apikey.Hash{token.ID(): hasher.Hash(token.Parsed())}
	fmt.Println(len(token.Reveal()), "characters, shown once")

	// Later, with a request:
	parsed, err := apikey.Parse(token.Reveal(), prefix)
	if err != nil {
		fmt.Println("401")
		return
	}
	hash, known := stored[parsed.ID]
	if !known {
		hasher.Dummy(parsed)
		fmt.Println("401")
		return
	}
	ok, stale := hasher.Verify(parsed, hash)
	fmt.Println(ok, stale)
	// Output:
	// 75 characters, shown once
	// true false
}

func ExampleParsePrefix() {
	for _, s := range []string{"acme_live", "Acme"} {
		prefix, err := apikey.ParsePrefix(s)
		fmt.Printf("%q %v\n", prefix.String(), err)
	}
	// Output:
	// "acme_live" <nil>
	// "" apikey: parse prefix: invalid: want a lower-case letter, then lower-case letters and digits, such as acme or acme_live
}

func ExampleGenerate() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	// The second secret of one key, as in a rotation.
	token, err := apikey.Generate(nil, prefix, "FakeKeyId0000002")
	fmt.Println(token.Masked(), err)
	// Output: acme_live_FakeKeyId0000002 <nil>
}

func ExampleParse() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	const token = "acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK"
	parsed, err := apikey.Parse(token, prefix)
	fmt.Println(parsed.ID, err)

	_, err = apikey.Parse(token[:len(token)-1], prefix)
	fmt.Println(err, errors.Is(err, apikey.ErrMalformed))
	// Output:
	// FakeKeyId0000002 <nil>
	// apikey: malformed token true
}

// A token does not get into a log or an answer by mistake.
func ExampleToken() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	token, _ := apikey.Generate(nil, prefix, "FakeKeyId0000002")
	fmt.Printf("%v %+v\n", token, struct{ Key apikey.Token }{token})
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"key": token})
	// Output:
	// acme_live_FakeKeyId0000002 {Key:acme_live_FakeKeyId0000002}
	// {"key":"acme_live_FakeKeyId0000002"}
}

// A new pepper is added after the old one, which goes when no key uses it.
func ExampleHasher_Verify() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	parsed, _ := apikey.Parse("acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK", prefix)
	lastYear := apikey.Pepper{ID: "2025", Key: []byte("32 random bytes from your vault.")}
	thisYear := apikey.Pepper{ID: "2026", Key: []byte("32 others, which are random too.")}

	before, _ := apikey.NewHasher(lastYear)
	stored := before.Hash(parsed)

	hasher, _ := apikey.NewHasher(lastYear, thisYear)
	ok, stale := hasher.Verify(parsed, stored)
	fmt.Println(stored.Pepper, ok, stale)
	if stale {
		stored = hasher.Hash(parsed)
	}
	ok, stale = hasher.Verify(parsed, stored)
	fmt.Println(stored.Pepper, ok, stale)
	// Output:
	// 2025 true true
	// 2026 true false
}

// A host that had no pepper starts to use one.
func ExampleUnpeppered() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	parsed, _ := apikey.Parse("acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK", prefix)
	without, _ := apikey.NewHasher()
	stored := without.Hash(parsed)

	hasher, _ := apikey.NewHasher(apikey.Unpeppered(), apikey.Pepper{ID: "2026", Key: []byte("32 random bytes from your vault.")})
	fmt.Println(hasher.Verify(parsed, stored))
	// Output: true true
}

func ExampleParseHash() {
	hash, err := apikey.ParseHash("hmac-sha256:2026:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
	fmt.Println(hash.Pepper, err)
	_, err = apikey.ParseHash("md5:d41d8cd98f00b204e9800998ecf8427e")
	fmt.Println(errors.Is(err, apikey.ErrInvalid))
	// Output:
	// 2026 <nil>
	// true
}

func ExamplePattern() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	pattern := regexp.MustCompile(apikey.Pattern(prefix))
	fmt.Println(pattern)
	fmt.Println(pattern.FindString(`key: "acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK"`))
	// Output:
	// \bacme_live_[0-9A-Za-z]{59}[0-4][0-9A-Za-z]{5}\b
	// acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK
}

func ExampleGitleaksRule() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	fmt.Print(apikey.GitleaksRule(prefix))
	// Output:
	// [[rules]]
	// id = "acme-live-api-key"
	// description = "An API key of acme_live: end it where it was issued, then take it out of the history."
	// regex = '''\bacme_live_[0-9A-Za-z]{59}[0-4][0-9A-Za-z]{5}\b'''
	// entropy = 4
	// keywords = ["acme_live_"]
}

func ExampleTruffleHogRule() {
	prefix, _ := apikey.ParsePrefix("acme_live")
	fmt.Print(apikey.TruffleHogRule(prefix))
	// Output:
	// detectors:
	//   - name: acme-live-api-key
	//     keywords:
	//       - acme_live_
	//     regex:
	//       token: '\bacme_live_[0-9A-Za-z]{59}[0-4][0-9A-Za-z]{5}\b'
	//     entropy: 4
}
