// Package saccount is the heart of keypurse.
package saccount
