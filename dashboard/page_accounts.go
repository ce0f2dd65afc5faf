package dashboard

import (
	"encoding/csv"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

const (
	pageRows  = 25  // of a list on a page
	keysNamed = 100 // keys of an account that its deletion names
)

// start is the mount path itself: the visitor's organization, or, for the
// host's staff, all of them.
func (v *visit) start() error {
	if !v.caller.Host {
		return v.redirect("orgs/" + url.PathEscape(v.caller.Org))
	}
	v.here = "orgs"
	f := saccount.Filter{Limit: pageRows, NamePrefix: v.text("q")}
	after, err := openCursor(v.text("after"), false)
	if err != nil {
		return err
	}
	f.Cursor = after
	p, err := v.svc.ListOrgs(v.ctx, f)
	if err != nil {
		return err
	}
	return v.render("orgs", "Organizations", struct {
		Orgs []saccount.Org
		Next string
		Q    string
	}{p.Items, sealCursor(p.Next, false), f.NamePrefix})
}

// accountRow is an account as the list shows it.
type accountRow struct {
	saccount.Account
	Status   saccount.Status
	Keys     string
	LastUsed time.Time
	Limits   []meter
	Spark    spark
}

// accounts is the list of service accounts.
func (v *visit) accounts() error {
	v.here = "accounts"
	f, err := v.accountFilter()
	if err != nil {
		return err
	}
	var list saccount.Page[saccount.Account]
	if one, ok, err := v.byID(); err != nil {
		return err
	} else if ok {
		list.Items = []saccount.Account{one}
	} else if list, err = v.svc.ListAccounts(v.ctx, v.org(), f); err != nil {
		return err
	}
	rows, err := v.accountRows(list.Items)
	if err != nil {
		return err
	}
	first := v.text("after") == ""
	q := v.form
	q.Del("after")
	var more url.Values
	if list.Next != "" {
		more = maps.Clone(q)
		more.Set("after", sealCursor(list.Next, f.ByName))
	}
	return v.render("accounts", "Service accounts", struct {
		Rows     []accountRow
		More     url.Values
		Q        string
		Sort     string
		Status   string
		Query    url.Values
		Filtered bool
		First    bool
		Statuses []saccount.Status
	}{rows, more, v.text("q"), v.text("sort"), v.text("status"), q, f.NamePrefix != "" || len(f.Statuses) > 0, first, []saccount.Status{saccount.StatusActive, saccount.StatusDisabled, saccount.StatusDeleted}})
}

// byID is the account whose id was searched for.
func (v *visit) byID() (a saccount.Account, ok bool, err error) {
	q := v.text("q")
	if q == "" {
		return a, false, nil
	}
	a, err = v.svc.GetAccount(v.ctx, v.org(), q, saccount.WithDeleted)
	if errors.Is(err, saccount.ErrNotFound) || errors.Is(err, saccount.ErrInvalid) {
		return a, false, nil
	}
	return a, err == nil, err
}

func (v *visit) accountFilter() (f saccount.Filter, err error) {
	f = saccount.Filter{Limit: pageRows, NamePrefix: v.text("q")}
	switch s := saccount.Status(v.text("status")); s {
	case "":
	case saccount.StatusActive, saccount.StatusDisabled, saccount.StatusDeleted:
		f.Statuses = []saccount.Status{s}
	default:
		return f, badRequest("There is no status %.20q: choose active, disabled or deleted.", s)
	}
	switch v.text("sort") {
	case "", "created":
	case "name":
		// The deleted have given their names back: they come by creation.
		f.ByName = len(f.Statuses) == 0 || f.Statuses[0] != saccount.StatusDeleted
	default:
		return f, badRequest("Accounts are sorted by name or by creation.")
	}
	f.Cursor, err = openCursor(v.text("after"), f.ByName)
	return f, err
}

// accountRows reads what a row shows beside the record: the same few reads for
// a page as for a row.
func (v *visit) accountRows(list []saccount.Account) ([]accountRow, error) {
	rows := make([]accountRow, len(list))
	if len(list) == 0 {
		return rows, nil
	}
	subjects, ids := make([]quota.Subject, len(list)), make([]string, len(list))
	for i, a := range list {
		subjects[i], ids[i] = subjectOf(saccount.KindAccount, a.ID), a.ID
	}
	limits, err := v.meters(saccount.KindAccount, ids)
	if err != nil {
		return nil, err
	}
	keys, err := v.svc.CountKeys(v.ctx, v.org(), ids)
	if err != nil {
		return nil, err
	}
	for i, a := range list {
		rows[i] = accountRow{Account: a, Status: statusOf(a.Disabled, a.Deleted), Keys: strconv.Itoa(keys[i].Keys), LastUsed: keys[i].LastUsed, Limits: limits[i]}
		if keys[i].More {
			rows[i].Keys = "more than " + rows[i].Keys
		}
	}
	now := v.cfg.Now().In(v.zone())
	series, err := v.svc.Usage(v.ctx, usage.Query{
		Org: v.org(), Subjects: subjects, From: midnight(now, -29), To: now.Add(time.Microsecond), Step: usage.Day, Zone: v.of.Zone, GroupBySubject: true,
	})
	if err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].Spark = drawSpark(series[i])
	}
	return rows, nil
}

// meters are the limits of records of a kind as bars, in the order of their ids.
func (v *visit) meters(kind saccount.Kind, ids []string) ([][]meter, error) {
	all, err := v.svc.Statuses(v.ctx, v.org(), kind, ids)
	if err != nil {
		return nil, err
	}
	out := make([][]meter, len(all))
	for i := range all {
		for _, s := range all[i] {
			out[i] = append(out[i], limitBar(s))
		}
	}
	return out, nil
}

// everyStatus asks for the deleted too.
var everyStatus = []saccount.Status{saccount.StatusActive, saccount.StatusDisabled, saccount.StatusExpired, saccount.StatusDeleted}

// accountsCSV is the list as a file, all pages of it, streamed.
func (v *visit) accountsCSV() error {
	f, err := v.accountFilter()
	if err != nil {
		return err
	}
	f.Limit, f.Cursor = saccount.MaxPage, ""
	next, err := v.svc.ListAccounts(v.ctx, v.org(), f)
	if err != nil {
		return err // before the first byte, so as a page
	}
	v.download("service-accounts.csv")
	out := csv.NewWriter(v.w)
	out.UseCRLF = true
	_ = out.Write([]string{"id", "name", "description", "status", "created", "created_by", "limit", "max", "used", "held", "overage", "remaining", "resets_at"})
	for {
		ids := make([]string, len(next.Items))
		for i := range ids {
			ids[i] = next.Items[i].ID
		}
		all, err := v.svc.Statuses(v.ctx, v.org(), saccount.KindAccount, ids)
		if err != nil {
			panic(http.ErrAbortHandler) // the file must not look whole
		}
		for i, a := range next.Items {
			st := all[i]
			row := []string{
				usage.SafeCell(a.ID), usage.SafeCell(a.Name), usage.SafeCell(a.Description), string(statusOf(a.Disabled, a.Deleted)),
				a.Created.UTC().Format(time.RFC3339), usage.SafeCell(string(a.CreatedBy)),
			}
			if len(st) == 0 {
				_ = out.Write(append(row, "", "", "", "", "", "", ""))
			}
			for _, s := range st {
				resets := ""
				if !s.ResetAt.IsZero() {
					resets = s.ResetAt.UTC().Format(time.RFC3339)
				}
				_ = out.Write(append(slices.Clone(row), s.Limit, s.Max.String(), s.Used.String(), s.Held.String(), s.Overage.String(), s.Remaining.String(), resets))
			}
		}
		out.Flush()
		if out.Error() != nil || next.Next == "" {
			return nil // done, or the client is gone
		}
		f.Cursor = next.Next
		if next, err = v.svc.ListAccounts(v.ctx, v.org(), f); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (v *visit) download(name string) {
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

func (v *visit) disableAccount() error {
	v.guard()
	err := v.svc.DisableAccount(v.ctx, v.caller.Actor, v.org(), v.id())
	return v.done(err, "accounts", v.id())
}

func (v *visit) enableAccount() error {
	v.guard()
	err := v.svc.EnableAccount(v.ctx, v.caller.Actor, v.org(), v.id())
	return v.done(err, "accounts", v.id())
}

// done goes on to a page of the organization where a change was made, now or
// before.
func (v *visit) done(err error, parts ...string) error {
	if err != nil && !errors.Is(err, saccount.ErrDone) {
		return err
	}
	return v.redirect(v.orgPath(parts...))
}

// deleteForm asks before something is deleted for good.
type deleteForm struct {
	Form     *form
	What     string
	Name     string
	Keys     []saccount.Key // the first of them
	Count    saccount.KeyCount
	LastUsed time.Time
	Back     string // the path of the page that it is deleted from
	Disabled bool
}

func (v *visit) askDeleteAccount() error { return v.deleteAccountPage(newForm()) }

func (v *visit) deleteAccountPage(f *form) error {
	v.here = "accounts"
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	keys, err := v.svc.ListKeys(v.ctx, v.org(), a.ID, saccount.Filter{Limit: keysNamed})
	if err != nil {
		return err
	}
	n, err := v.svc.CountKeys(v.ctx, v.org(), []string{a.ID})
	if err != nil {
		return err
	}
	d := deleteForm{
		Form: f, What: "service account", Name: a.Name, Keys: keys.Items, Count: n[0], LastUsed: n[0].LastUsed, Back: v.orgPath("accounts", a.ID), Disabled: a.Disabled,
	}
	return v.render("delete", "Delete "+a.Name, d)
}

func (v *visit) deleteAccount() error {
	a, err := v.svc.GetAccount(v.ctx, v.org(), v.id())
	if err != nil {
		return err
	}
	if v.text("name") != a.Name {
		f := v.sent()
		f.Errors["name"] = "This is not its name. Nothing was deleted."
		v.status = http.StatusUnprocessableEntity
		return v.deleteAccountPage(f)
	}
	v.guard()
	err = v.svc.DeleteAccount(v.ctx, v.caller.Actor, v.org(), a.ID)
	return v.done(err, "accounts")
}
