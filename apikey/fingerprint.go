package apikey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// Fingerprint is by what a process recognizes a secret that it has verified
// before, in a third of the time that Verify takes: 128 bits that only the
// Hasher which made it can make again, and from which the secret cannot be had.
// It means nothing to any other Hasher or process: do not store it. Compare
// Fingerprints with ==; every bit but those in memory is unknown to whoever
// presents a token, so that how long the comparison takes tells them nothing.
type Fingerprint [2]uint64

// fingerprinter makes Fingerprints: AES-128 in CBC-MAC under a random key that
// never leaves it. CBC-MAC is a pseudorandom function where all messages have
// one length (Bellare, Kilian and Rogaway, The Security of the Cipher Block
// Chaining Message Authentication Code, 2000), as all secrets have.
type fingerprinter struct {
	block cipher.Block
	bufs  sync.Pool // of *fingerprintBuf, because what Encrypt is given escapes
}

type fingerprintBuf [(SecretLen + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize]byte

func newFingerprinter() *fingerprinter {
	var key [16]byte
	rand.Read(key[:]) // never fails: see crypto/rand
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // a key of 16 bytes is never refused
	}
	return &fingerprinter{block: block, bufs: sync.Pool{New: func() any { return new(fingerprintBuf) }}}
}

// Fingerprint makes the Fingerprint of a token's secret. It says nothing about
// whether the token is good: remember it of a secret that [Hasher.Verify] said
// ok of, beside that secret's record, and no longer than what was verified
// holds. It allocates nothing.
func (h *Hasher) Fingerprint(p Parsed) Fingerprint {
	f := h.prints.Load()
	if f == nil {
		h.prints.CompareAndSwap(nil, newFingerprinter())
		f = h.prints.Load()
	}
	b := f.bufs.Get().(*fingerprintBuf)
	copy(b[:], p.secret()) // what follows it is zero in every buffer
	last := b[:aes.BlockSize]
	f.block.Encrypt(last, last)
	for rest := b[aes.BlockSize:]; len(rest) > 0; rest = rest[aes.BlockSize:] {
		next := rest[:aes.BlockSize]
		subtle.XORBytes(next, next, last)
		f.block.Encrypt(next, next)
		last = next
	}
	out := Fingerprint{binary.LittleEndian.Uint64(last), binary.LittleEndian.Uint64(last[8:])}
	clear(b[:])
	f.bufs.Put(b)
	return out
}
