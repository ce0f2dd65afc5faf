package saccount

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// node is a record with its Data read: what all kinds are changed as.
type node struct {
	Record
	data
}

// data is what Record.Data holds, as JSON. Every kind uses what it needs.
type data struct {
	asked
	Description string        `json:"description,omitempty"`
	Zone        string        `json:"zone,omitempty"`
	Limits      []quota.Limit `json:"limits,omitempty"`
	Serial      int           `json:"serial,omitempty"`  // of the newest secret
	Prefix      string        `json:"prefix,omitempty"`  // of a key's tokens
	Role        Role          `json:"role,omitempty"`    // of a management key
	Request     string        `json:"request,omitempty"` // that made an organization: see Guard
	Keys        *KeyPolicy    `json:"keys,omitempty"`    // of an organization
	Leaked      time.Time     `json:"leaked,omitzero"`   // when its token was last reported
	Warned      time.Time     `json:"warned,omitzero"`   // when a policy said that it would disable it
	CreatedBy   Actor         `json:"created_by,omitempty"`
	Updated     time.Time     `json:"updated,omitzero"`
	Recipients  []Recipient   `json:"recipients,omitempty"` // of an organization
}

// asked is what every request asks of data, but for the limits.
type asked struct {
	Environment string         `json:"environment,omitempty"`
	Sequence    uint32         `json:"sequence,omitempty"` // the highest number ever given to a limit's period
	Rate        *RateLimit     `json:"rate,omitempty"`
	Scopes      []string       `json:"scopes,omitempty"`
	AllowFrom   []netip.Prefix `json:"allow_from,omitempty"`
	Secrets     []secret       `json:"secrets,omitempty"`
	// Thresholds are those of limits on it and below it that name none; nil
	// inherits, empty is none.
	Thresholds []quota.Threshold `json:"thresholds,omitzero"`
}

// secret is one living secret of a key: its hash, never the secret.
type secret struct {
	Serial  int         `json:"serial"`
	Hash    apikey.Hash `json:"hash"`
	Created time.Time   `json:"created"`
	Ends    time.Time   `json:"ends,omitzero"` // zero: with the key
}

func readNode(r Record) (*node, error) {
	n := &node{Record: r}
	if len(r.Data) > 0 {
		if err := json.Unmarshal(r.Data, &n.data); err != nil {
			return nil, fmt.Errorf("saccount: %s %q: %w: %w", r.Kind, r.ID, quota.ErrCorrupt, err)
		}
	}
	n.Data = nil
	return n, nil
}

// spender is what a request asks of a record's data. The limits come as they are
// stored: who reads them mostly knows what they say.
type spender struct {
	asked
	Limits json.RawMessage `json:"limits"`
}

// readSpender is readNode for a request, which looks at nothing else of the data:
// where no key is kept in memory each reads its key.
func readSpender(r *Record) (d spender, err error) {
	if len(r.Data) > 0 {
		if err := json.Unmarshal(r.Data, &d); err != nil {
			return d, fmt.Errorf("saccount: %s %q: %w: %w", r.Kind, r.ID, quota.ErrCorrupt, err)
		}
	}
	return d, nil
}

func (n *node) record() (Record, error) {
	b, err := json.Marshal(&n.data)
	if err != nil {
		return Record{}, fmt.Errorf("saccount: %s %q: %w", n.Kind, n.ID, err)
	}
	r := n.Record.Clone()
	r.Data = b
	return r, nil
}

func (r *Record) subject() quota.Subject { return quota.NewSubject(r.Kind.String(), r.ID) }

// purse is the limits of the record's own.
func (n *node) purse(defaults []quota.Threshold) (*quota.Purse, error) {
	return quota.NewPurse(n.subject(), n.Sequence, n.Limits, defaults)
}

func (n *node) limit(name string) *quota.Limit {
	for i := range n.Limits {
		if n.Limits[i].Name == name {
			return &n.Limits[i]
		}
	}
	return nil
}

func (n *node) setLimit(l quota.Limit) {
	n.Limits = slices.Clone(n.Limits)
	if p := n.limit(l.Name); p != nil {
		*p = l
		return
	}
	n.Limits = append(n.Limits, l)
	slices.SortFunc(n.Limits, func(a, b quota.Limit) int { return strings.Compare(a.Name, b.Name) })
}

func (n *node) org() Org {
	o := Org{
		ID: n.ID, Name: n.Name, Zone: n.Zone, Labels: n.Labels, Limits: n.Limits, Thresholds: n.Thresholds, Disabled: n.Disabled, Keys: n.Keys,
		Created: n.Created, CreatedBy: n.CreatedBy, Updated: n.Updated, Deleted: n.Deleted, Revision: n.Revision,
	}
	for _, r := range n.Recipients {
		o.Recipients = append(o.Recipients, r.Masked())
	}
	return o
}

func (n *node) account() Account {
	return Account{
		ID: n.ID, Org: n.Org, Name: n.Name, Description: n.Description, Labels: n.Labels, Limits: n.Limits, Thresholds: n.Thresholds, Rate: n.Rate,
		Disabled: n.Disabled, Created: n.Created, CreatedBy: n.CreatedBy, Updated: n.Updated, Deleted: n.Deleted,
		Revision: n.Revision, Advice: AdviseName(n.Name),
	}
}

func (n *node) member() Member {
	return Member{
		ID: n.ID, Org: n.Org, Name: n.Name, Labels: n.Labels, Limits: n.Limits, Thresholds: n.Thresholds, Disabled: n.Disabled,
		Created: n.Created, CreatedBy: n.CreatedBy, Updated: n.Updated, Deleted: n.Deleted, Revision: n.Revision,
	}
}

func (n *node) key(now time.Time) Key {
	k := Key{
		ID: n.ID, Account: n.Parent, Org: n.Org, Name: n.Name, Environment: n.Environment, Masked: n.Prefix + "_" + n.ID,
		Labels: n.Labels, Scopes: n.Scopes, AllowFrom: n.AllowFrom, Limits: n.Limits, Thresholds: n.Thresholds, Rate: n.Rate, Expires: n.Expires,
		Disabled: n.Disabled, Created: n.Created, CreatedBy: n.CreatedBy, Updated: n.Updated, Deleted: n.Deleted,
		LastUsed: n.Use, Revision: n.Revision, Advice: AdviseName(n.Name), Status: n.Record.Status(now),
	}
	if k.Leaked = n.Leaked; !k.Leaked.IsZero() {
		k.Advice = append(k.Advice, "its token was reported as leaked: rotate it, move its clients, then enable it")
	}
	if len(n.Secrets) > 0 {
		newest := n.Secrets[len(n.Secrets)-1]
		k.Rotated = newest.Created
		if len(n.Secrets) > 1 && now.Before(n.Secrets[0].Ends) {
			k.OverlapEnds = n.Secrets[0].Ends
		}
	}
	return k
}
