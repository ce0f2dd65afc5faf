package quota

import "errors"

// Conditions that callers test with errors.Is. They are wrapped with what was
// wrong and what to do about it.
var (
	// ErrInvalid is wrapped by every refusal of bad input: an amount, a
	// period, a limit, an id. Nothing was changed.
	ErrInvalid = errors.New("invalid")
	// ErrOverflow is wrapped where a sum of credits would leave int64.
	// Nothing was changed.
	ErrOverflow = errors.New("credits overflow")
	// ErrConflict: the id was used before with other fields. Nothing was
	// changed; use a new id for new work.
	ErrConflict = errors.New("id conflict")
	// ErrExpired: the reservation's time to live was over before it was
	// settled. Its credits are free again and nothing was charged; the host
	// may Charge instead.
	ErrExpired = errors.New("reservation expired")
	// ErrUnknownID: no reservation or charge with this id is remembered in
	// this organization. Nothing was changed.
	ErrUnknownID = errors.New("unknown id")
	// ErrExcess: a refund larger than what is left of its charge, or a commit
	// above its reservation where the host refuses overage. Nothing was
	// changed.
	ErrExcess = errors.New("amount exceeds what it settles")
	// ErrCorrupt: a stored record failed its checksum. What it belongs to is
	// refused until the store is repaired or restored.
	ErrCorrupt = errors.New("corrupt record")
	// ErrBusy: a bound on waiting work was reached, or the records moved too
	// often to decide on. Nothing was changed; retry with the same id.
	ErrBusy = errors.New("too busy")
	// ErrClosed: the Ledger or the store was closed. Nothing was changed.
	ErrClosed = errors.New("closed")
	// ErrUnknownOutcome: the store failed, or the caller stopped waiting,
	// while the operation was on its way. It may have been applied; retry it
	// with the same id to learn which.
	ErrUnknownOutcome = errors.New("outcome unknown")
)
