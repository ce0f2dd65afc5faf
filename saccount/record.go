package saccount

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// Kind is the kind of a record.
type Kind uint8

// The kinds. The numbers are stored: they never change.
const (
	KindOrg Kind = 1 + iota
	KindAccount
	KindMember
	KindKey
	// KindManagementKey is a key to manage an organization with, or the host's
	// in HostPartition.
	KindManagementKey
	// KindRequest remembers that a request was done: see Guard. It is over at
	// Record.Expires, and then dropped by Purge.
	KindRequest
)

// HostPartition is where records lie that belong to the host and to no
// organization: its management keys, and requests that make organizations. It
// is written, audited and listed like an organization, without a record of
// its own. No organization has this id: theirs have no space in front.
const HostPartition = " host"

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return k >= KindOrg && k <= KindRequest }

// FoundByID reports whether a record's id is unique in the whole store and
// finds it without its organization: keys of both kinds, which share their ids.
func (k Kind) FoundByID() bool { return k == KindKey || k == KindManagementKey }

// String is "org", "account", "member" or "key", as in a quota.Subject,
// "management_key" or "request".
func (k Kind) String() string {
	switch k {
	case KindOrg:
		return quota.KindOrg
	case KindAccount:
		return quota.KindAccount
	case KindMember:
		return quota.KindMember
	case KindKey:
		return quota.KindKey
	case KindManagementKey:
		return "management_key"
	case KindRequest:
		return "request"
	}
	return "unknown kind"
}

// UniqueNames reports whether no two living records of the kind under one
// parent may share a name: accounts and keys. People and organizations may.
func (k Kind) UniqueNames() bool { return k == KindAccount || k == KindKey }

// Record is an organization, account, member, key or whatever else has a Kind, as a store keeps it: what
// stores look at stands in fields, the rest is Data, which they keep byte by
// byte.
type Record struct {
	Kind     Kind
	Org      string // the organization's id; of an organization, its own
	ID       string // unique among the kind in the organization; where Kind.FoundByID, everywhere
	Parent   string // of a key, its account's id; of an organization, empty; else the organization's
	Name     string // where Kind.UniqueNames, unique among the living records of the kind and parent; may be empty
	Disabled bool
	Created  time.Time // microseconds, UTC, like all times
	Deleted  time.Time // zero: living
	Expires  time.Time // zero: never
	Labels   map[string]string
	Revision int64 // 1 when it was made, one more with each change
	Data     []byte

	// Use is when a key, of either kind, was last used. Stores fill it when they read; Write
	// ignores it.
	Use Use
}

// Use is when, and from where, a key was last used. The zero Use: never.
type Use struct {
	At   time.Time
	Addr string // as text; empty where it is not known
}

// Clone is a copy that shares nothing with r.
func (r *Record) Clone() Record {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	c.Data = slices.Clone(r.Data)
	return c
}

// Lineage is a record with what stands above it, as of one moment: a key with
// its account and organization, an account or member with its organization.
type Lineage struct {
	Record  Record
	Account *Record // of a key
	Org     *Record // nil where Record is the organization, and in HostPartition
	// Settings is the organization's settings number at that moment.
	Settings int64
}

// Change puts one record.
type Change struct {
	// Record is what it shall be. Its Revision is the one it was read at; 0
	// where it must not exist. The store sets the next.
	Record Record
	// Quiet leaves the settings number as it is: for changes of what no
	// charge and no authentication depends on, and for new records.
	Quiet bool
}

// Opening asks for the counter of a limit whose period is new or set anew to
// be opened in the same step: see quota.Book.Open.
type Opening struct {
	Subject quota.Subject
	Entry   quota.Entry
	Was     *quota.Entry // the limit it replaces; nil for none
}

// Batch is what one Write does, wholly or not at all, in one organization.
type Batch struct {
	Org     string
	At      time.Time
	Changes []Change
	Open    []Opening
	Audit   []Entry // appended, as Sealed gives them
	// Seal makes the Mark of an entry that follows one with the mark prev ("":
	// none). It is pure, and called by Sealed in the atomic step, under
	// whatever keeps others from appending: so no change of an organization
	// has to be tried again because another came first. A store may call it
	// again when it tries again, and calls nothing of the Service. Nil:
	// entries have no mark.
	Seal func(prev string, e *Entry) string
	// Cut, where not nil, drops the audit entries with numbers through
	// Cut.Through and is kept in their place, instead of any Cut before it;
	// Audit is appended in the same step. See CheckCut.
	Cut *Cut
	// Alerts go into the outbox in the same step, behind what was there. One
	// whose ID was posted in this organization before is passed over, within
	// the Batch too.
	Alerts []alert.Post
}

// Entry is an entry of the audit log as a store keeps it.
type Entry struct {
	Seq  int64 // from 1 in each organization, without gaps
	At   time.Time
	Data []byte
	Mark string // ties it to the entries before it; up to MaxMark bytes of ASCII
}

// Status of a record.
type Status string

// The statuses. An account or key also ends with what stands above it: see
// Key.Status and Account.Status.
const (
	StatusActive   Status = "active"
	StatusDisabled Status = "disabled"
	StatusExpired  Status = "expired"
	StatusDeleted  Status = "deleted"
)

// Status of the record by itself at instant now.
func (r *Record) Status(now time.Time) Status {
	switch {
	case !r.Deleted.IsZero():
		return StatusDeleted
	case r.Disabled:
		return StatusDisabled
	case !r.Expires.IsZero() && !now.Before(r.Expires):
		return StatusExpired
	}
	return StatusActive
}

// ListQuery asks a store for a page of records of one kind.
type ListQuery struct {
	Kind   Kind
	Org    string // empty only with KindOrg
	Parent string // with KindKey: the account; empty: every key of the organization
	// ByName orders by name, byte by byte, and knows the living only; it is
	// for kinds with unique names, and for the keys of one account. Otherwise
	// the order is that of the ids.
	ByName bool
	After  string // the cursor: the id (or name) that the page before ended with
	Limit  int    // 1 to MaxPage
	// Filters. Zero values let everything through but the deleted.
	Statuses   []Status // with StatusDeleted among them, the deleted too; empty: the living
	NamePrefix string
	Labels     map[string]string // all of them
	Now        time.Time         // for StatusExpired
}

// MaxPage bounds a page.
const MaxPage = 1000

// Match reports whether a record passes the filters of the query: the one
// rule, for every store.
func (q *ListQuery) Match(r *Record) bool {
	st := r.Status(q.Now)
	if len(q.Statuses) == 0 && st == StatusDeleted || len(q.Statuses) > 0 && !slices.Contains(q.Statuses, st) {
		return false
	}
	if !strings.HasPrefix(r.Name, q.NamePrefix) {
		return false
	}
	for k, v := range q.Labels {
		if w, ok := r.Labels[k]; !ok || w != v {
			return false
		}
	}
	return true
}
