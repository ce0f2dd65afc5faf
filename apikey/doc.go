// Package apikey is the format of a key: how a token is made, read, checked
// for typing errors, hashed for storage, masked and found by secret scanners.
// It does no I/O and reads no clock.
//
// # The format
//
//	acme_live_FakeKeyId0000002FakeSecretDoNotUse000000000000000000000000242JwZK
//	└─prefix┘ └──────id──────┘└──────────────────secret─────────────────┘└crc─┘
//
// A token is <prefix>_<id><secret><checksum>: a prefix that the host chooses
// (see [ParsePrefix]), an id of 16, a secret of 43 (256 bits) and a checksum of
// 6 characters, all in base62 (0-9A-Za-z, in this order). All tokens of one
// prefix have one length, and a double click selects the whole of one. The
// checksum is the CRC-32 (IEEE 802.3) of everything before it, prefix and
// underscores included, as a base62 number left-padded with 0.
//
// The id is no secret: it finds the record and may be logged. The secret is
// never stored; a [Hasher] makes what is, HMAC-SHA-256 under a pepper that the
// host keeps apart from its database, or SHA-256 where it gives none.
//
// # When to use it
//
// Use it on its own for tokens that are random and made by you. The service in
// the saccount package uses it for every key, so a host of that package needs
// from here only a [Prefix], its [Pepper] values and the scanner rules
// ([Pattern], [GitleaksRule], [TruffleHogRule]).
//
// # Limits
//
// The checksum is not security. Anyone can compute it; it catches typing errors
// and cut-off copies before a store is asked, and lets scanners tell a token
// from a look-alike. Only the hash decides. [Parse] therefore answers every
// defect with the same [ErrMalformed], and a server should answer that like an
// unknown key.
//
// The hash is a fast one. That is right for 256 random bits and wrong for
// anything that a person chose: do not put passwords through it.
//
// A [Token] and a [Parsed] redact themselves wherever the standard library
// prints or encodes them, also inside other values. They do not erase the secret
// from memory, where a debugger or a core dump finds it: Go cannot erase a
// string.
//
// testdata/vectors.json has test vectors for implementations in other languages.
package apikey
