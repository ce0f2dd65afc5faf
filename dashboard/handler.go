package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// handler is what New makes. Immutable.
type handler struct {
	svc      *saccount.Service
	cfg      Config
	cross    *http.CrossOriginProtection
	routes   []*route
	document func() json.RawMessage // made when it is first asked for

	pages     []*pageRoute
	templates templates
	assets    assets
}

// call is one request on its way through its route.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	route  *route
	caller Caller
	params map[string]string // the path's, by name
	sent   []byte            // the body, once it was read
	match  ifMatch
	// guarded is ctx with what makes the one change of the request conditional.
	guarded context.Context
}

// ServeHTTP is the way of a request: headers, what a service account must not
// do, what another site must not do, which route, who asks, may they, do it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	c := &call{handler: h, w: w, r: r, ctx: r.Context()}
	if _, ok := saccount.OriginOf(c.ctx); !ok { // the host's own says more
		c.ctx = saccount.WithOrigin(c.ctx, saccount.Origin{Addr: web.ClientAddr(r, h.cfg.TrustedProxies)})
	}
	if c.serveAsset() {
		return
	}
	if v := c.visit(); v != nil {
		h.serveVisit(v)
		return
	}
	re, err := c.serve()
	if err != nil {
		c.refuse(err)
		return
	}
	c.answer(re)
}

func (c *call) serve() (*reply, error) {
	if c.fromServiceAccount() {
		return nil, &problem{Status: 403, Code: codeServiceAccount, Detail: "A service account's key opens nothing here; sign in, or use a management key."}
	}
	if err := c.cross.Check(c.r); err != nil {
		return nil, &problem{Status: 403, Code: codeCrossOrigin, Detail: "The request comes from another site.", Err: err}
	}
	if err := c.find(); err != nil {
		return nil, err
	}
	var err error
	if c.caller, err = c.authorize(); err != nil {
		return nil, err
	}
	if err := c.may(); err != nil {
		return nil, err
	}
	if err := c.readMatch(); err != nil {
		return nil, err
	}
	return c.once()
}

// authorize says who asks: whose management key it is, or whom the host knows.
func (c *call) authorize() (Caller, error) {
	if who, ok, err := c.manager(); ok {
		return who, err
	}
	return c.signedIn()
}

// signedIn says who asks, as the host knows them.
func (c *call) signedIn() (Caller, error) {
	who, err := c.cfg.Authorize(c.r)
	if err != nil {
		c.cfg.Logger.InfoContext(c.ctx, "keypurse: a request to the dashboard is refused", "error", err)
		if errors.Is(err, saccount.ErrUnauthenticated) {
			return who, &problem{Status: 401, Code: codeUnauthenticated, Detail: "Sign in first, or send a management key.", Err: err}
		}
		return who, &problem{Status: 403, Code: codeForbidden, Detail: "You may not do this.", Err: err}
	}
	if who.Actor == "" || who.Role < saccount.RoleView || who.Role > saccount.RoleAdmin || who.Host == (who.Org != "") || who.Org == saccount.HostPartition {
		c.cfg.Logger.ErrorContext(c.ctx, "keypurse: Authorize gave no actor, no role, or neither an organization nor Host; the request is refused", "actor", string(who.Actor), "org", who.Org, "host", who.Host, "role", who.Role)
		return who, &problem{Status: 403, Code: codeForbidden, Detail: "You may not do this."}
	}
	return who, nil
}

// manager says who asks by a management key. ok is false where there is none:
// then it is for the host to say.
func (c *call) manager() (who Caller, ok bool, err error) {
	token, n := web.Credentials(c.r.Header, true)
	lead := c.svc.ManagementPrefix().String() + "_"
	if n == web.PresentedMany && anyShaped(c.r.Header, lead) {
		return who, true, badHeader("Authorization", "the request carries more than one key; send one, once")
	}
	if n != web.PresentedOne || !strings.HasPrefix(token, lead) || lead == "_" {
		return who, false, nil
	}
	m, err := c.svc.Manager(c.ctx, token, web.ClientAddr(c.r, c.cfg.TrustedProxies))
	if err != nil {
		if a := web.Explain(err, c.cfg.Now()); a != nil {
			c.cfg.Logger.InfoContext(c.ctx, "keypurse: a management key is refused", "error", err)
			return who, true, &problem{Status: a.Status, Code: a.Code, Detail: a.Detail, Err: err}
		}
		return who, true, err
	}
	who = Caller{Actor: m.Actor(), Org: m.Org, Role: m.Role}
	if m.Org == saccount.HostPartition {
		who.Org, who.Host = "", true
	}
	return who, true, nil
}

// may refuses what the caller's role or organization does not reach.
func (c *call) may() error { return c.reaches(c.route.host, c.route.role, c.route.changes()) }

// reaches refuses a caller whom the organization of the path is not, or who has
// not the role, or is not of the host's staff, that something needs.
func (c *call) reaches(host bool, role saccount.Role, changes bool) error {
	if org, ok := c.params["org"]; ok && (!c.caller.Host && org != c.caller.Org || org == saccount.HostPartition) {
		return notFound("organization")
	}
	if host && !c.caller.Host {
		return &problem{Status: 403, Code: codeForbidden, Detail: "Only the host's own staff may do this."}
	}
	if c.caller.Role < role {
		return roleNeeded(role)
	}
	if c.cfg.ReadOnly && changes {
		return &problem{Status: 403, Code: codeReadOnly, Detail: "Nothing can be changed here: the dashboard is read-only."}
	}
	return nil
}

func roleNeeded(r saccount.Role) *problem {
	return &problem{Status: 403, Code: codeForbidden, Detail: "This needs the role " + r.String() + "."}
}

// org is the organization of the path.
func (c *call) org() string { return c.params["org"] }

// id is the record of the path.
func (c *call) id() string { return c.params["id"] }

// setHeaders sets what every answer has: nothing of it runs scripts that are
// not its own, is framed, sniffed, or kept by anybody.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: under it a form says "Origin: null" of itself, and where a
	// browser sends no Sec-Fetch-Site (an old one; http to any name but
	// localhost) nothing tells it from another site's. Other sites learn no more.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// refuse answers with what is wrong.
func (c *call) refuse(err error) {
	p := c.problem(err)
	if p.Status >= 500 {
		c.cfg.Logger.ErrorContext(c.ctx, "keypurse: a request to the dashboard failed", "method", c.r.Method, "error", err)
	}
	h := c.w.Header()
	if p.Status == http.StatusUnauthorized {
		code := ""
		if p.Code == codeInvalidToken {
			code = p.Code
		}
		h.Set("WWW-Authenticate", web.Challenge("keypurse", code, p.Detail, ""))
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", web.RetryAfter(p.RetryAfter))
	}
	if p.Status == http.StatusMethodNotAllowed {
		h.Set("Allow", p.allow)
	}
	web.Write(c.w, c.r, p.Status, web.ProblemType, p.body())
}
