package dashboard

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// pageRoute is a page, or a form that is sent.
type pageRoute struct {
	method string
	path   string // below the mount path: "orgs/{org}/accounts"
	role   saccount.Role
	host   bool // of the host's own staff only
	do     func(*visit) error

	segments []string
}

// visit is one request for a page on its way.
type visit struct {
	*call
	page   *pageRoute
	root   string     // the mount path, relative to this page
	form   url.Values // of a form that was sent, or the query
	status int        // 0: 200
	allow  string     // the methods that the path knows, where page is nil

	of   *saccount.Org // whose page it is
	here string        // the navigation's entry that the page belongs to
	past bool          // what it shows was deleted
}

// pageRoutes are the pages: the one table that the handler and its tests go by.
func pageRoutes() []*pageRoute {
	const view, manage, admin = saccount.RoleView, saccount.RoleManage, saccount.RoleAdmin
	all := []*pageRoute{
		{method: "GET", path: "", role: view, do: (*visit).start},
		{method: "GET", path: "orgs/{org}", role: view, do: (*visit).overview},

		{method: "GET", path: "orgs/{org}/accounts", role: view, do: (*visit).accounts},
		{method: "GET", path: "orgs/{org}/accounts.csv", role: view, do: (*visit).accountsCSV},
		{method: "GET", path: "orgs/{org}/advice", role: view, do: (*visit).advice},
		{method: "GET", path: "orgs/{org}/accounts/new", role: manage, do: (*visit).newAccount},
		{method: "POST", path: "orgs/{org}/accounts/new", role: manage, do: (*visit).createAccount},
		{method: "GET", path: "orgs/{org}/accounts/{id}", role: view, do: (*visit).account},
		{method: "GET", path: "orgs/{org}/accounts/{id}/usage.csv", role: view, do: (*visit).accountCSV},
		{method: "GET", path: "orgs/{org}/accounts/{id}/edit", role: manage, do: (*visit).editAccount},
		{method: "POST", path: "orgs/{org}/accounts/{id}/edit", role: manage, do: (*visit).updateAccount},
		{method: "GET", path: "orgs/{org}/accounts/{id}/delete", role: manage, do: (*visit).askDeleteAccount},
		{method: "POST", path: "orgs/{org}/accounts/{id}/delete", role: manage, do: (*visit).deleteAccount},
		{method: "POST", path: "orgs/{org}/accounts/{id}/disable", role: manage, do: (*visit).disableAccount},
		{method: "POST", path: "orgs/{org}/accounts/{id}/enable", role: manage, do: (*visit).enableAccount},

		{method: "GET", path: "orgs/{org}/accounts/{account}/keys/new", role: manage, do: (*visit).newKey},
		{method: "POST", path: "orgs/{org}/accounts/{account}/keys/new", role: manage, do: (*visit).createKey},
		{method: "GET", path: "orgs/{org}/keys/{id}", role: view, do: (*visit).key},
		{method: "GET", path: "orgs/{org}/keys/{id}/edit", role: manage, do: (*visit).editKey},
		{method: "POST", path: "orgs/{org}/keys/{id}/edit", role: manage, do: (*visit).updateKey},
		{method: "GET", path: "orgs/{org}/keys/{id}/rotate", role: manage, do: (*visit).askRotate},
		{method: "POST", path: "orgs/{org}/keys/{id}/rotate", role: manage, do: (*visit).rotate},
		{method: "POST", path: "orgs/{org}/keys/{id}/cancel-rotation", role: manage, do: (*visit).cancelRotation},
		{method: "GET", path: "orgs/{org}/keys/{id}/delete", role: manage, do: (*visit).askDeleteKey},
		{method: "POST", path: "orgs/{org}/keys/{id}/delete", role: manage, do: (*visit).deleteKey},
		{method: "POST", path: "orgs/{org}/keys/{id}/disable", role: manage, do: (*visit).disableKey},
		{method: "POST", path: "orgs/{org}/keys/{id}/enable", role: manage, do: (*visit).enableKey},

		{method: "GET", path: "orgs/{org}/members", role: view, do: (*visit).members},
		{method: "GET", path: "orgs/{org}/members/{id}", role: view, do: (*visit).member},

		{method: "GET", path: "orgs/{org}/limits/{kind}/{id}/{limit}", role: manage, do: (*visit).editLimit},
		{method: "POST", path: "orgs/{org}/limits/{kind}/{id}/{limit}", role: manage, do: (*visit).setLimit},
		{method: "POST", path: "orgs/{org}/limits/{kind}/{id}/{limit}/remove", role: manage, do: (*visit).removeLimit},
		{method: "POST", path: "orgs/{org}/limits/{kind}/{id}/{limit}/top-up", role: admin, do: (*visit).topUp},
		{method: "POST", path: "orgs/{org}/limits/{kind}/{id}/{limit}/raise", role: admin, do: (*visit).raise},

		{method: "GET", path: "orgs/{org}/report", role: view, do: (*visit).orgReport},
		{method: "GET", path: "orgs/{org}/accounts/{id}/report", role: view, do: (*visit).accountReport},
		{method: "GET", path: "orgs/{org}/keys/{id}/report", role: view, do: (*visit).keyReport},
		{method: "GET", path: "orgs/{org}/usage.csv", role: view, do: (*visit).usageCSV},
		{method: "GET", path: "orgs/{org}/needs", role: view, do: (*visit).needs},
		{method: "GET", path: "orgs/{org}/audit", role: view, do: (*visit).auditLog},
		{method: "GET", path: "orgs/{org}/audit.csv", role: view, do: (*visit).auditCSV},
		{method: "GET", path: "orgs/{org}/audit.jsonl", role: view, do: (*visit).auditJSONL},
		{method: "GET", path: "orgs/{org}/audit/verify", role: view, do: (*visit).verifyAudit},
		{method: "GET", path: "orgs/{org}/key-policy", role: manage, do: (*visit).editKeyPolicy},
		{method: "POST", path: "orgs/{org}/key-policy", role: manage, do: (*visit).setKeyPolicy},
		{method: "GET", path: "orgs/{org}/alerts", role: view, do: (*visit).alerts},
		{method: "GET", path: "orgs/{org}/recipients", role: view, do: (*visit).recipients},
		{method: "GET", path: "orgs/{org}/recipients/new", role: manage, do: (*visit).newRecipient},
		{method: "POST", path: "orgs/{org}/recipients/new", role: manage, do: (*visit).createRecipient},
		{method: "GET", path: "orgs/{org}/recipients/{id}", role: view, do: (*visit).recipient},
		{method: "GET", path: "orgs/{org}/recipients/{id}/edit", role: manage, do: (*visit).editRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/edit", role: manage, do: (*visit).updateRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/test", role: manage, do: (*visit).testRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/replay", role: manage, do: (*visit).replayRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/rotate", role: manage, do: (*visit).rotateRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/disable", role: manage, do: (*visit).disableRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/enable", role: manage, do: (*visit).enableRecipient},
		{method: "POST", path: "orgs/{org}/recipients/{id}/remove", role: manage, do: (*visit).removeRecipient},
		{method: "GET", path: "orgs/{org}/thresholds/{kind}/{id}", role: manage, do: (*visit).editThresholds},
		{method: "POST", path: "orgs/{org}/thresholds/{kind}/{id}", role: manage, do: (*visit).setThresholds},

		{method: "GET", path: "orgs/{org}/settings", role: view, do: (*visit).settings},
		{method: "POST", path: "orgs/{org}/settings", role: admin, do: (*visit).updateSettings},
	}
	for _, r := range all {
		r.segments = strings.Split(r.path, "/")
	}
	return all
}

// visit finds the page of a request; nil where the path is the API's.
func (c *call) visit() *visit {
	v := &visit{call: c}
	paths := c.below()
	if slices.ContainsFunc(paths, c.isAPI) {
		return nil
	}
	for _, path := range paths {
		page, params, allow := pick(c.pages, c.r.Method, path)
		if page != nil {
			v.page, v.root, c.params = page, rootOf(path), params
			return v
		}
		v.allow = cmp.Or(v.allow, strings.Join(allow, ", "))
	}
	if slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p+"/", base+"/") || p == "api" }) {
		return nil
	}
	v.root = rootOf(paths[0])
	return v
}

// rootOf is the mount path, relative to a page at path.
func rootOf(path string) string { return "./" + strings.Repeat("../", strings.Count(path, "/")) }

func (r *pageRoute) shape() (method string, segments []string) { return r.method, r.segments }

// serveVisit is the way of a request for a page.
func (h *handler) serveVisit(v *visit) {
	if err := v.serve(); err != nil {
		v.fail(err)
	}
}

func (v *visit) serve() error {
	if v.fromServiceAccount() {
		return &problem{Status: 403, Code: codeServiceAccount, Detail: "A service account's key opens nothing here. Sign in."}
	}
	if err := v.cross.Check(v.r); err != nil {
		return &problem{Status: 403, Code: codeCrossOrigin, Detail: "The request comes from another site. Open the page itself and send the form from there.", Err: err}
	}
	if v.page == nil {
		if v.allow != "" {
			return &problem{Status: 405, Code: codeMethod, Detail: "This page does not know the method.", allow: v.allow}
		}
		return notFound("page")
	}
	if anyShaped(v.r.Header, v.svc.ManagementPrefix().String()+"_") {
		return &problem{Status: 403, Code: codeForbidden, Detail: "A management key opens the API and no page. Sign in."}
	}
	var err error
	if v.caller, err = v.signedIn(); err != nil {
		return err
	}
	if err := v.reaches(v.page.host, v.page.role, v.page.method != http.MethodGet); err != nil {
		return err
	}
	if id, ok := v.params["org"]; ok {
		org, err := v.svc.GetOrg(v.ctx, id)
		if err != nil {
			return err
		}
		v.of = &org
	}
	if v.page.method == http.MethodGet {
		v.form, err = url.ParseQuery(v.r.URL.RawQuery)
		if err != nil {
			return badRequest("The address cannot be read.")
		}
	} else if err := v.readForm(); err != nil {
		return err
	}
	return v.page.do(v)
}

// readForm reads a form that was sent, of bounded size.
func (v *visit) readForm() error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxBody)
	if err := v.r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return &problem{Status: 413, Code: codeTooLarge, Detail: "The form is too large."}
		}
		return badRequest("The form cannot be read.")
	}
	v.form = v.r.PostForm
	return nil
}

// fail answers with a page that says what went wrong.
func (v *visit) fail(err error) {
	p := v.problem(err)
	if p.Status >= 500 {
		v.cfg.Logger.ErrorContext(v.ctx, "keypurse: a page of the dashboard failed", "method", v.r.Method, "error", err)
	}
	h := v.w.Header()
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", web.Challenge("keypurse", "", "", ""))
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", web.RetryAfter(p.RetryAfter))
	}
	if p.Status == http.StatusMethodNotAllowed {
		h.Set("Allow", p.allow)
	}
	v.status = p.Status
	title := p.Title
	if title == "" {
		title = http.StatusText(p.Status)
	}
	if err := v.render("error", title, p); err != nil {
		http.Error(v.w, title, p.Status)
	}
}

// redirect sends the browser on after a change, to a path below the mount path.
func (v *visit) redirect(path string) error {
	v.w.Header().Set("Location", v.root+path)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// guard makes a form count once: where its button is pressed twice, or the page
// of the answer loaded again, nothing happens a second time.
func (v *visit) guard() {
	var g saccount.Guard
	if once := v.form.Get("once"); once != "" {
		g.Request = saccount.Request{ID: "form " + digest([]byte(v.caller.Actor), []byte(once)), Mark: v.page.path}
	}
	v.ctx = saccount.WithGuard(v.ctx, g)
}

// orgPath is the path of a page of the organization.
func (v *visit) orgPath(parts ...string) string {
	out := "orgs/" + url.PathEscape(v.org())
	for _, p := range parts {
		out += "/" + url.PathEscape(p)
	}
	return out
}
