//go:build race

package saccount_test

// Under the race detector sync.Pool throws away some of what is put into it.
const raceDetector = true
