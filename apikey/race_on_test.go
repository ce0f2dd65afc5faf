//go:build race

package apikey_test

// Under the race detector sync.Pool throws away some of what is put into it.
const raceDetector = true
