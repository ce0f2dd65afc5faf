package saccount

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// ManagementKey is a key to manage with: it belongs to an organization or to
// the host, has a role and no limits, and is never charged. Service.Authenticate
// takes it for an unknown key, and Service.Manager a service account's.
type ManagementKey struct {
	ID          string         `json:"id"`  // the handle to log
	Org         string         `json:"org"` // HostPartition: the host's, for every organization
	Name        string         `json:"name"`
	Role        Role           `json:"role"`
	Masked      string         `json:"masked"` // prefix and id
	AllowFrom   []netip.Prefix `json:"allow_from,omitempty"`
	Expires     time.Time      `json:"expires,omitzero"` // zero: never
	Disabled    bool           `json:"disabled,omitempty"`
	Status      Status         `json:"status"`
	Created     time.Time      `json:"created"`
	CreatedBy   Actor          `json:"created_by,omitempty"`
	Rotated     time.Time      `json:"rotated,omitzero"`
	OverlapEnds time.Time      `json:"overlap_ends,omitzero"`
	Updated     time.Time      `json:"updated,omitzero"`
	Deleted     time.Time      `json:"deleted,omitzero"`
	LastUsed    Use            `json:"last_used,omitzero"`
	Revision    int64          `json:"revision"`
}

// ManagementKeySpec describes a new management key.
type ManagementKeySpec struct {
	Name      string // 1 to 100 characters
	Role      Role
	AllowFrom []netip.Prefix
	Expires   time.Time // zero: never, unless Config.MaxKeyLife says otherwise
}

// Manager is who manages, by a management key.
type Manager struct {
	KeyID string
	Org   string // HostPartition: the host's
	Role  Role
}

// Actor is how the key goes into the audit log.
func (m Manager) Actor() Actor { return Actor(KindManagementKey.String() + ":" + m.KeyID) }

func (n *node) managementKey(now time.Time) ManagementKey {
	k := n.key(now) // what both kinds of keys have
	return ManagementKey{
		ID: k.ID, Org: k.Org, Name: k.Name, Role: n.Role, Masked: k.Masked, AllowFrom: k.AllowFrom, Expires: k.Expires,
		Disabled: k.Disabled, Status: k.Status, Created: k.Created, CreatedBy: k.CreatedBy, Rotated: k.Rotated,
		OverlapEnds: k.OverlapEnds, Updated: k.Updated, Deleted: k.Deleted, LastUsed: k.LastUsed, Revision: k.Revision,
	}
}

// ManagementPrefix is the prefix of management keys' tokens: see
// Config.ManagementPrefix. It is zero where none fits.
func (s *Service) ManagementPrefix() apikey.Prefix { return s.managePrefix }

// CreateManagementKey makes a management key of an organization, or of the
// host (HostPartition), and gives its token, which is shown this once. Who may
// is the caller's business: nobody should give a role above their own. Errors:
// ErrInvalid, ErrNotFound where the organization does not live, and the store's.
func (s *Service) CreateManagementKey(ctx context.Context, by Actor, org string, spec ManagementKeySpec) (apikey.Token, ManagementKey, error) {
	now := Micro(s.now())
	n, err := s.newManagementKey(ctx, org, spec, now)
	if err != nil {
		return apikey.Token{}, ManagementKey{}, fmt.Errorf("saccount: create management key: %w", err)
	}
	token, err := s.addSecret(n, now)
	if err != nil {
		return apikey.Token{}, ManagementKey{}, err
	}
	if n, err = s.create(ctx, by, n, nil, now); err != nil {
		return apikey.Token{}, ManagementKey{}, err
	}
	return token, n.managementKey(now), nil
}

func (s *Service) newManagementKey(ctx context.Context, org string, spec ManagementKeySpec, now time.Time) (n *node, err error) {
	if s.managePrefix == (apikey.Prefix{}) {
		return nil, invalidf("management keys: the Service's prefix is too long to make theirs of it; set Config.ManagementPrefix")
	}
	if org != HostPartition {
		if _, err := s.living(ctx, org, KindOrg, org); err != nil {
			return nil, err
		}
	}
	id, err := s.newID(now)
	if err != nil {
		return nil, err
	}
	n = &node{Record: Record{Kind: KindManagementKey, Org: org, ID: id, Parent: org}}
	if n.Name, err = text("name", spec.Name, 1, MaxName); err != nil {
		return nil, err
	}
	if spec.Role < RoleView || spec.Role > RoleAdmin {
		return nil, fieldf("/role", "role: give view, manage or admin")
	}
	n.Role = spec.Role
	if n.AllowFrom, err = checkAllowFrom(spec.AllowFrom); err != nil {
		return nil, err
	}
	n.Expires, err = s.checkExpiry(nil, spec.Expires, now, now)
	return n, err
}

// GetManagementKey reads a management key. ErrNotFound where there is none in
// this organization or HostPartition, and where it was deleted, unless
// WithDeleted is given.
func (s *Service) GetManagementKey(ctx context.Context, org, id string, with ...Include) (ManagementKey, error) {
	n, err := s.get(ctx, org, KindManagementKey, id, with)
	if err != nil {
		return ManagementKey{}, err
	}
	return n.managementKey(s.now()), nil
}

// ListManagementKeys lists the management keys of an organization or of
// HostPartition, in order of creation.
func (s *Service) ListManagementKeys(ctx context.Context, org string, f Filter) (Page[ManagementKey], error) {
	return list(ctx, s, KindManagementKey, org, "", f, (*node).managementKey)
}

// UpdateManagementKey changes a management key: its Name, AllowFrom and
// Expires. What it may do is fixed: make another. Errors are those of UpdateAccount.
func (s *Service) UpdateManagementKey(ctx context.Context, by Actor, org, id string, u Update) (ManagementKey, error) {
	n, err := s.update(ctx, by, org, KindManagementKey, id, u)
	if err != nil {
		return ManagementKey{}, err
	}
	return n.managementKey(s.now()), nil
}

// DisableManagementKey refuses the key from now on, in every process.
func (s *Service) DisableManagementKey(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindManagementKey, id, true)
}

// EnableManagementKey undoes DisableManagementKey.
func (s *Service) EnableManagementKey(ctx context.Context, by Actor, org, id string) error {
	return s.setDisabled(ctx, by, org, KindManagementKey, id, false)
}

// DeleteManagementKey deletes the key, for good.
func (s *Service) DeleteManagementKey(ctx context.Context, by Actor, org, id string) error {
	return s.remove(ctx, by, org, KindManagementKey, id)
}

// RotateManagementKey is RotateKey for a management key.
func (s *Service) RotateManagementKey(ctx context.Context, by Actor, org, id string, overlap time.Duration) (apikey.Token, ManagementKey, error) {
	token, n, err := s.rotate(ctx, by, org, KindManagementKey, id, overlap)
	if err != nil {
		return apikey.Token{}, ManagementKey{}, err
	}
	return token, n.managementKey(s.now()), nil
}

// Manager tells who manages, by the token of a management key, from the address
// that they come from (the zero Addr where it is not known). The store is asked
// each time: what was revoked is refused at once, in every process. Errors are
// those of Authenticate, except for ErrRateLimited.
func (s *Service) Manager(ctx context.Context, token string, from netip.Addr) (Manager, error) {
	p, err := apikey.Parse(token, s.managePrefix)
	if err != nil {
		return Manager{}, errMalformed
	}
	if err := s.begin("manager"); err != nil {
		return Manager{}, err
	}
	l, err := s.store.Lookup(ctx, "", KindManagementKey, p.ID)
	if errors.Is(err, ErrNotFound) {
		s.hasher.Dummy(p)
		return Manager{}, &AuthError{Reason: string(reasonUnknown), KeyID: p.ID}
	}
	if err != nil {
		return Manager{}, fmt.Errorf("saccount: manager: %w", err)
	}
	n, err := readNode(l.Record)
	if err != nil {
		return Manager{}, err
	}
	now := s.now()
	serial, why := n.barred(p, s.hasher, l.Org, now)
	if why != "" {
		return Manager{}, &AuthError{Reason: string(why), KeyID: n.ID}
	}
	if len(n.AllowFrom) > 0 && !allowed(n.AllowFrom, from) {
		return Manager{}, &AddressError{KeyID: n.ID, Addr: from}
	}
	if now.Sub(n.Use.At) >= touchSeconds*time.Second {
		s.used.wait(touchOf(n.Org, n.ID, now, from), n.Use.At.IsZero())
	}
	if serial > 0 {
		s.rehash(ctx, n.Org, KindManagementKey, n.ID, int32(serial), s.hasher.Hash(p))
	}
	return Manager{KeyID: n.ID, Org: n.Org, Role: n.Role}, nil
}

// barred says why a token does not open a management key; empty where it does.
// Nothing but the secret is looked at before the secret matched. stale is the
// serial of the secret where its hash is under an older pepper, else 0.
func (n *node) barred(p apikey.Parsed, h *apikey.Hasher, org *Record, now time.Time) (stale int, why quota.Reason) {
	ok, rotated := false, false
	for i := range n.Secrets { // at most two
		if good, old := h.Verify(p, n.Secrets[i].Hash); good {
			if old {
				stale = n.Secrets[i].Serial
			}
			ok, rotated = true, !n.Secrets[i].Ends.IsZero() && !now.Before(n.Secrets[i].Ends)
		}
	}
	if len(n.Secrets) == 0 {
		h.Dummy(p)
	}
	switch {
	case !ok:
		return 0, reasonSecret
	case !n.Deleted.IsZero() || org != nil && !org.Deleted.IsZero():
		return 0, reasonDeleted
	case n.Disabled || org != nil && org.Disabled:
		return 0, quota.ReasonDisabled
	case n.Record.Status(now) == StatusExpired:
		return 0, quota.ReasonExpired
	case rotated:
		return 0, reasonRotated
	}
	return stale, ""
}
