package saccount

import (
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Actor is who asks for a change, as the host names them ("user:alice",
// "terraform"): 1 to 200 characters of printable UTF-8. It goes into the audit
// log and is not checked against anything.
type Actor string

// Org is an organization: the partition that everything of a customer lies in.
type Org struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Zone   string            `json:"zone,omitempty"` // IANA name, the default of its limits; empty is UTC
	Labels map[string]string `json:"labels,omitempty"`
	Limits []quota.Limit     `json:"limits,omitempty"`
	// Thresholds of limits on it and below it that name none; nil inherits those
	// above, in the end the service's; empty is none. Set by an Update.
	Thresholds []quota.Threshold `json:"thresholds,omitzero"`
	Keys       *KeyPolicy        `json:"keys,omitempty"` // nil: the defaults
	Disabled   bool              `json:"disabled,omitempty"`
	Created    time.Time         `json:"created"`
	CreatedBy  Actor             `json:"created_by,omitempty"`
	Updated    time.Time         `json:"updated,omitzero"`
	Deleted    time.Time         `json:"deleted,omitzero"`
	Revision   int64             `json:"revision"`
	// Recipients are who hears of its alerts, masked: see Recipient.Masked, and
	// Service.Recipients for the whole.
	Recipients []Recipient `json:"recipients,omitempty"`
}

// Account is a service account: a non-human identity of an organization. It
// authenticates with its keys only.
type Account struct {
	ID          string            `json:"id"`
	Org         string            `json:"org"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Limits      []quota.Limit     `json:"limits,omitempty"`
	// Thresholds of limits on it and below it that name none; nil inherits those
	// above, in the end the service's; empty is none. Set by an Update.
	Thresholds []quota.Threshold `json:"thresholds,omitzero"`
	Rate       *RateLimit        `json:"rate,omitempty"`
	Disabled   bool              `json:"disabled,omitempty"`
	Created    time.Time         `json:"created"`
	CreatedBy  Actor             `json:"created_by,omitempty"`
	Updated    time.Time         `json:"updated,omitzero"`
	Deleted    time.Time         `json:"deleted,omitzero"`
	Revision   int64             `json:"revision"`
	// Advice says what a person may want to mend, such as a name that says
	// nothing. Empty where all is well. Never an error.
	Advice []string `json:"advice,omitempty"`
}

// Member is a person's seat in an organization: it has limits and is charged,
// but owns no keys. How it signs in is the host's business.
type Member struct {
	ID     string            `json:"id"`
	Org    string            `json:"org"`
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Limits []quota.Limit     `json:"limits,omitempty"`
	// Thresholds of limits on it and below it that name none; nil inherits those
	// above, in the end the service's; empty is none. Set by an Update.
	Thresholds []quota.Threshold `json:"thresholds,omitzero"`
	Disabled   bool              `json:"disabled,omitempty"`
	Created    time.Time         `json:"created"`
	CreatedBy  Actor             `json:"created_by,omitempty"`
	Updated    time.Time         `json:"updated,omitzero"`
	Deleted    time.Time         `json:"deleted,omitzero"`
	Revision   int64             `json:"revision"`
}

// Key is an API key of a service account, without its secret, which nobody has
// but whom it was given to.
type Key struct {
	ID          string            `json:"id"` // the handle to log
	Account     string            `json:"account"`
	Org         string            `json:"org"`
	Name        string            `json:"name"`
	Environment string            `json:"environment,omitempty"`
	Masked      string            `json:"masked"` // prefix and id
	Labels      map[string]string `json:"labels,omitempty"`
	Scopes      []string          `json:"scopes,omitempty"`
	AllowFrom   []netip.Prefix    `json:"allow_from,omitempty"` // empty: from everywhere
	Limits      []quota.Limit     `json:"limits,omitempty"`
	// Thresholds of limits on it and below it that name none; nil inherits those
	// above, in the end the service's; empty is none. Set by an Update.
	Thresholds  []quota.Threshold `json:"thresholds,omitzero"`
	Rate        *RateLimit        `json:"rate,omitempty"`
	Expires     time.Time         `json:"expires,omitzero"` // zero: never
	Disabled    bool              `json:"disabled,omitempty"`
	Status      Status            `json:"status"` // of the key itself; its account may be disabled or deleted too
	Created     time.Time         `json:"created"`
	CreatedBy   Actor             `json:"created_by,omitempty"`
	Rotated     time.Time         `json:"rotated,omitzero"`      // when its newest secret was made
	OverlapEnds time.Time         `json:"overlap_ends,omitzero"` // until when the secret before it lives too
	Leaked      time.Time         `json:"leaked,omitzero"`       // when its token was last reported: see Service.ReportLeak
	Updated     time.Time         `json:"updated,omitzero"`
	Deleted     time.Time         `json:"deleted,omitzero"`
	LastUsed    Use               `json:"last_used,omitzero"`
	Revision    int64             `json:"revision"`
	Advice      []string          `json:"advice,omitempty"` // see Account.Advice
}

// LimitSpec sets a limit. A field that is nil is left as it is, or, in a new
// limit, at its default. A new limit needs a Max.
type LimitSpec struct {
	Max    *quota.Credits `json:"max,omitempty"`
	Period *quota.Period  `json:"period,omitempty"` // default: never resets
	Soft   *bool          `json:"soft,omitempty"`   // default: false
	// Thresholds, where they point to nil, are those of the service again.
	Thresholds *[]quota.Threshold `json:"thresholds,omitempty"` // default: the service's
}

// NewLimit is the LimitSpec of max credits a period.
func NewLimit(max quota.Credits, period quota.Period) *LimitSpec {
	return &LimitSpec{Max: &max, Period: &period}
}

// Limits are LimitSpecs by name; the empty name is quota.DefaultLimitName. In
// an update a name that is left out is unchanged, and nil removes the limit.
type Limits map[string]*LimitSpec

// RateLimit bounds requests, whatever they cost, by a token bucket
// (golang.org/x/time/rate) in this process alone: n processes let n times as
// many through.
type RateLimit struct {
	PerSecond float64 `json:"per_second"` // above 0, at most 1,000,000
	Burst     int     `json:"burst"`      // 1 to 1,000,000; 0 is PerSecond rounded up
}

// OrgSpec describes a new organization.
type OrgSpec struct {
	ID     string // chosen by the host, 1 to 128 printable characters; empty makes one
	Name   string // 1 to 100 characters; empty is the ID
	Zone   string // IANA name; empty is UTC
	Labels map[string]string
	Limits Limits
	// Thresholds of limits on it and below it that name none; nil inherits, empty is none.
	Thresholds []quota.Threshold
}

// AccountSpec describes a new service account.
type AccountSpec struct {
	Name        string // 1 to 100 characters, unique among the organization's living accounts
	Description string // up to 500 characters
	Labels      map[string]string
	Limits      Limits
	// Thresholds of limits on it and below it that name none; nil inherits, empty is none.
	Thresholds []quota.Threshold
	Rate       *RateLimit
}

// MemberSpec describes a new member.
type MemberSpec struct {
	ID     string // the host's id of the person, 1 to 128 printable characters
	Name   string // may be empty, up to 100 characters
	Labels map[string]string
	Limits Limits
	// Thresholds of limits on it and below it that name none; nil inherits, empty is none.
	Thresholds []quota.Threshold
}

// KeySpec describes a new key.
type KeySpec struct {
	Name        string // 1 to 100 characters, unique among the account's living keys
	Environment string // "dev", "staging", "production", ...: up to 32 of a-z, 0-9, "-" and "_"
	Labels      map[string]string
	Scopes      []string // up to 64, each 1 to 64 characters without spaces, quotes or backslashes (RFC 6749, 3.3)
	AllowFrom   []netip.Prefix
	Limits      Limits
	Thresholds  []quota.Threshold // of limits on it that name none; nil inherits, empty is none
	Rate        *RateLimit
	Expires     time.Time // zero: never, unless Config.MaxKeyLife says otherwise
}

// Update changes a record. A nil field is left as it is. What a kind does not
// have is refused.
type Update struct {
	// Revision, where not zero, is the one that the caller read: where the
	// record has moved on, the update is refused with ErrConflict.
	Revision    int64
	Name        *string
	Description *string            // accounts
	Zone        *string            // organizations: the default of limits set later; touches none that is there
	Labels      map[string]*string // nil value: the label is removed
	Limits      Limits
	// Thresholds, where not nil, are those of limits on the record and below it
	// that name none; a pointer to nil inherits again, to an empty list is none.
	Thresholds  *[]quota.Threshold
	Rate        *RateLimit      // accounts and keys; the zero RateLimit removes it
	Environment *string         // keys
	Scopes      *[]string       // keys
	AllowFrom   *[]netip.Prefix // keys of both kinds
	Keys        *KeyPolicy      // organizations; the zero KeyPolicy is the defaults
	Expires     *time.Time      // keys of both kinds; the zero time: never
}
