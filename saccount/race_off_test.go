//go:build !race

package saccount_test

const raceDetector = false
