package dashboard

import (
	"net/netip"
	"reflect"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// format is how a type that is written as a string is described.
type format struct {
	what   string // "give ..."
	schema map[string]any
}

// formats are the types that JSON has as strings of a certain form.
var formats = map[reflect.Type]format{
	reflect.TypeFor[quota.Credits]():   {`a decimal string such as "2.05"`, map[string]any{"type": "string", "pattern": `^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`}},
	reflect.TypeFor[quota.Threshold](): {`"80%", "left 20" or "overage"`, map[string]any{"type": "string"}},
	reflect.TypeFor[quota.Unit]():      {"never, hour, day, week, month, quarter or year", map[string]any{"type": "string"}},
	reflect.TypeFor[netip.Prefix]():    {"a range such as 203.0.113.0/24", map[string]any{"type": "string"}},
	reflect.TypeFor[netip.Addr]():      {"an address such as 203.0.113.7", map[string]any{"type": "string"}},
	reflect.TypeFor[time.Time]():       {"an instant (RFC 3339)", map[string]any{"type": "string", "format": "date-time"}},
	reflect.TypeFor[saccount.Role]():   {"view, manage or admin", map[string]any{"type": "string", "enum": []string{"view", "manage", "admin"}}},
}
