package quota

import "strings"

// Subject is whatever a counter belongs to: an organization, account, member
// or key, written as "org:ID", "account:ID", "member:ID" or "key:ID". Ids are
// compared byte by byte. A Subject has meaning within one organization.
type Subject string

// The kinds of subject, as they stand before the colon.
const (
	KindOrg     = "org"
	KindAccount = "account"
	KindMember  = "member"
	KindKey     = "key"
)

// NewSubject joins a kind and an id. It checks neither: ids come out of
// records that were checked when they were written.
func NewSubject(kind, id string) Subject { return Subject(kind + ":" + id) }

// Kind is the part before the colon: "org", "account", "member" or "key".
func (s Subject) Kind() string {
	kind, _, _ := strings.Cut(string(s), ":")
	return kind
}

// ID is the part after the first colon.
func (s Subject) ID() string {
	_, id, _ := strings.Cut(string(s), ":")
	return id
}
