package apikey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// Fingerprint is by what a process recognizes a token that it has verified
// before, in a fifth of the time that it takes to parse and verify it: 128 bits
// that only the Hasher which made it can make again, and from which nothing of
// the token can be had. It means nothing to any other Hasher or process: do not
// store it. Compare Fingerprints with ==: whoever presents a token does not know
// those in memory, so that how long it takes tells them nothing.
type Fingerprint [2]uint64

// fingerprinter makes Fingerprints: AES-128 in CBC-MAC under a random key that
// never leaves it. CBC-MAC is a pseudorandom function where all messages have
// one length (Bellare, Kilian and Rogaway, The Security of the Cipher Block
// Chaining Message Authentication Code, 2000), as these have.
type fingerprinter struct {
	block cipher.Block
	bufs  sync.Pool // of *fingerprintBuf, because what Encrypt is given escapes
}

// printedLen is what a Fingerprint is of: secret and checksum.
const printedLen = bodyLen - IDLen

type fingerprintBuf [(printedLen + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize]byte

func newFingerprinter() *fingerprinter {
	var key [16]byte
	rand.Read(key[:]) // never fails: see crypto/rand
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // a key of 16 bytes is never refused
	}
	return &fingerprinter{block: block, bufs: sync.Pool{New: func() any { return new(fingerprintBuf) }}}
}

// Fingerprint makes the Fingerprint of all that follows the id in a token of this
// prefix. ok is false where length or prefix are wrong: [Parse] would say
// ErrMalformed. Else it says nothing about the token, which may be malformed.
//
// Remember the Fingerprint of a token that Parse and [Hasher.Verify] found good
// beside the record of its id, for no longer than what was verified holds: a
// token with that id ([Prefix.IDOf]) and that Fingerprint is the same to the byte.
// It allocates nothing.
func (h *Hasher) Fingerprint(token string, prefix Prefix) (print Fingerprint, ok bool) {
	if _, ok := prefix.IDOf(token); !ok {
		return print, false
	}
	f := h.prints.Load()
	if f == nil {
		h.prints.CompareAndSwap(nil, newFingerprinter())
		f = h.prints.Load()
	}
	b := f.bufs.Get().(*fingerprintBuf)
	copy(b[:], token[len(prefix.lead)+IDLen:]) // what follows it is zero in every buffer
	for i := 0; ; i += aes.BlockSize {
		block := b[i : i+aes.BlockSize]
		f.block.Encrypt(block, block)
		if i+aes.BlockSize == len(b) {
			print = Fingerprint{binary.LittleEndian.Uint64(block), binary.LittleEndian.Uint64(block[8:])}
			break
		}
		next := b[i+aes.BlockSize : i+2*aes.BlockSize]
		subtle.XORBytes(next, next, block)
	}
	clear(b[:])
	f.bufs.Put(b)
	return print, true
}
