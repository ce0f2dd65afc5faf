package middleware_test

import "hash/crc32"

// checksum is a token's: CRC-32 (IEEE) in six base62 digits.
func checksum(s string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n := crc32.ChecksumIEEE([]byte(s))
	b := make([]byte, 6)
	for i := 5; i >= 0; i-- {
		b[i] = digits[n%62]
		n /= 62
	}
	return string(b)
}
