package saccount

import "errors"

// Conditions that callers test with errors.Is. They are wrapped with what was
// wrong and what to do.
var (
	// ErrNotFound: there is no such record, it was deleted, or it belongs to
	// another organization; the three are not told apart.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id was used before (ids are never used again), or a
	// living sibling has the name.
	ErrExists = errors.New("exists already")
	// ErrConflict: the record was changed since it was read. Read it again.
	ErrConflict = errors.New("changed meanwhile")
	// ErrInvalid: bad input; the message names the field. Nothing was changed.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated: the credential is not good. Why is not told; see
	// AuthError for the log.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrForbidden: the credential is good and may not do this: its address is
	// not on the allowlist, or a scope is missing.
	ErrForbidden = errors.New("forbidden")
	// ErrRateLimited: the rate limit of the key or the account; see RateError.
	ErrRateLimited = errors.New("rate limited")
	// ErrClosed: the Service or its store was closed.
	ErrClosed = errors.New("closed")
	// ErrLocked: another process has the store's file.
	ErrLocked = errors.New("locked by another process")
	// ErrVersion: the store was written by a newer version of the library.
	ErrVersion = errors.New("written by a newer version")
)
