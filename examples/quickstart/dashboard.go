package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/saccount"
)

const dashboardPath = "/dashboard/"

// console is the dashboard for whoever sits at this machine. A real service
// has a login, and tells from it who asks.
func console(svc *saccount.Service) (http.Handler, error) {
	return dashboard.New(svc, dashboard.Config{Authorize: func(r *http.Request) (dashboard.Caller, error) {
		// The name too: a site whose name was pointed at this machine sends its own.
		if !loopback(r.RemoteAddr) || !loopback(r.Host) {
			return dashboard.Caller{}, fmt.Errorf("%w: the quickstart's dashboard is for this machine alone", saccount.ErrUnauthenticated)
		}
		return dashboard.Caller{Actor: "user:you", Org: orgID, Role: saccount.RoleAdmin}, nil
	}})
}

// loopback reports whether an address, or a name with or without a port, is of
// this machine.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
