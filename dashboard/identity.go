package dashboard

import "github.com/keypurse/keypurse/saccount"

// identity is who asks.
type identity struct {
	Actor    saccount.Actor `json:"actor"`
	Org      string         `json:"org,omitempty" doc:"absent: every organization"`
	Host     bool           `json:"host,omitempty" doc:"of the host's own staff"`
	Role     saccount.Role  `json:"role"`
	ReadOnly bool           `json:"read_only,omitempty"`
}

func whoAmI(c *call) (*reply, error) {
	return &reply{body: identity{c.caller.Actor, c.caller.Org, c.caller.Host, c.caller.Role, c.cfg.ReadOnly}}, nil
}
