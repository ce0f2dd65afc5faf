package saccount

import "fmt"

// Role is what a person or a program may do with an organization. Nothing in
// this package asks for it: it is for whoever stands before it, such as package
// dashboard. The zero Role is none. Each role includes those before it.
type Role uint8

// The roles. The numbers are stored: they never change.
const (
	// RoleView sees.
	RoleView Role = 1 + iota
	// RoleManage does everything to an organization's accounts, members and
	// keys, and to their limits.
	RoleManage
	// RoleAdmin is for the host's own staff: it also touches what is money to
	// the host: the organization's limits, top-ups, raises, refunds and charges.
	RoleAdmin
)

// ParseRole reads "view", "manage" or "admin". The error wraps ErrInvalid.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{RoleView, RoleManage, RoleAdmin} {
		if s == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("saccount: %w role: want view, manage or admin", ErrInvalid)
}

// String is "view", "manage" or "admin", and "Role(9)" for what is none.
func (r Role) String() string {
	switch r {
	case RoleView:
		return "view"
	case RoleManage:
		return "manage"
	case RoleAdmin:
		return "admin"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// MarshalText is what String returns, or an error that wraps ErrInvalid for
// what is no role.
func (r Role) MarshalText() ([]byte, error) {
	if r < RoleView || r > RoleAdmin {
		return nil, fmt.Errorf("saccount: %w role %d", ErrInvalid, uint8(r))
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what ParseRole reads. On an error r is unchanged.
func (r *Role) UnmarshalText(text []byte) error {
	v, err := ParseRole(string(text))
	if err == nil {
		*r = v
	}
	return err
}
