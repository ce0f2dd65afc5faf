package saccount

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// OrgAlert is an alert, and what became of it at the organization's own
// recipients. The host's sinks are the host's and not in it.
type OrgAlert struct {
	alert.Alert
	Deliveries []RecipientDelivery `json:"deliveries,omitempty"`
}

// RecipientDelivery is how far an alert has come to one recipient.
type RecipientDelivery struct {
	Recipient string // its id; it may be there no more
	State     alert.State
	Tries     int64     // since it was put up, or replayed
	Next      time.Time // of what is pending: not before
	At        time.Time // since when State is so
	Error     string    // why the last try failed
}

// AlertFilter narrows a list of alerts. The zero AlertFilter lets everything
// through, DefaultPage alerts a page.
type AlertFilter struct {
	Subjects []quota.Subject // whom they are about, exactly, up to alert.MaxSubjects; empty: all
	Kinds    []alert.Kind    // empty: all
	State    alert.State     // with a delivery to a recipient in this state; 0: all
	Limit    int             // of a page, 1 to MaxPage; 0 is DefaultPage
	Cursor   string          // Page.Next of the page before
}

// Alerts lists an organization's alerts, the newest first, for as long as the
// store keeps them; also those of a deleted organization. One call looks at up
// to 10,000 of them: a page of a rare thing may hold fewer than Limit, or none,
// and Next says whether there may be more. Errors: ErrInvalid, ErrNotFound, and
// the store's.
func (s *Service) Alerts(ctx context.Context, org string, f AlertFilter) (p Page[OrgAlert], err error) {
	if err := s.begin("alerts"); err != nil {
		return p, err
	}
	if p, err = s.listAlerts(ctx, org, f); err != nil {
		return p, fmt.Errorf("saccount: alerts: %w", s.mark(err))
	}
	return p, nil
}

func (s *Service) listAlerts(ctx context.Context, org string, f AlertFilter) (p Page[OrgAlert], err error) {
	if f.Limit, err = pageLimit(f.Limit); err != nil {
		return p, err
	}
	whom := alert.Filter{Kinds: f.Kinds}
	if err := whom.Validate(); err != nil {
		return p, err
	}
	if _, err := s.lookup(ctx, org, KindOrg, org); err != nil {
		return p, err
	}
	q := alert.Recent{Org: org, Subjects: f.Subjects, N: min(f.Limit+1, MaxPage)}
	if q.Before, err = openCursor(f.Cursor); err != nil {
		return p, err
	}
	if len(f.Kinds) > 0 || f.State != 0 {
		q.N = min(max(q.N, 200), MaxPage)
	}
	for looked := 0; looked < maxScan; looked += q.N {
		as, err := s.store.Alerts(ctx, q)
		if err != nil {
			return p, err
		}
		fit := slices.DeleteFunc(slices.Clone(as), func(a quota.Alert) bool {
			return len(f.Kinds) > 0 && !slices.Contains(f.Kinds, alert.Read(a, "").Kind)
		})
		sent, err := s.sentTo(ctx, org, fit)
		if err != nil {
			return p, err
		}
		for _, a := range fit {
			ds := sent[a.Seq]
			if f.State != 0 && !slices.ContainsFunc(ds, func(d RecipientDelivery) bool { return d.State == f.State }) {
				continue
			}
			if len(p.Items) == f.Limit { // there is one more
				p.Next = strconv.FormatInt(q.Before, 10)
				return p, s.nameAlerts(ctx, org, p.Items)
			}
			p.Items = append(p.Items, OrgAlert{alert.Read(a, ""), ds})
			q.Before = a.Seq
		}
		if len(as) < q.N {
			p.Next = ""
			return p, s.nameAlerts(ctx, org, p.Items)
		}
		q.Before = as[len(as)-1].Seq
		p.Next = strconv.FormatInt(q.Before, 10)
	}
	return p, s.nameAlerts(ctx, org, p.Items)
}

func pageLimit(n int) (int, error) {
	if n == 0 {
		n = DefaultPage
	}
	if n < 1 || n > MaxPage {
		return 0, invalidf("page of %d: give 1 to %d", n, MaxPage)
	}
	return n, nil
}

func openCursor(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, invalidf("cursor: it is not the Next of a page")
	}
	return n, nil
}

// sentTo is what became of alerts at the organization's recipients, by Seq.
func (s *Service) sentTo(ctx context.Context, org string, as []quota.Alert) (map[int64][]RecipientDelivery, error) {
	if len(as) == 0 {
		return nil, nil
	}
	q := alert.Query{Org: org, N: MaxPage}
	for i := range as {
		q.Seqs = append(q.Seqs, as[i].Seq)
	}
	out := map[int64][]RecipientDelivery{}
	for {
		ds, err := s.store.Deliveries(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range ds {
			q.AfterSeq, q.AfterSink = ds[i].Alert.Seq, ds[i].Sink
			if d, ok := toRecipient(&ds[i]); ok {
				out[ds[i].Alert.Seq] = append(out[ds[i].Alert.Seq], d)
			}
		}
		if len(ds) < q.N {
			return out, nil
		}
	}
}

// toRecipient shows a delivery; ok is false where it is to a sink of the host's.
func toRecipient(d *alert.Delivery) (out RecipientDelivery, ok bool) {
	id, ok := strings.CutPrefix(d.Sink, recipientSink)
	out = RecipientDelivery{Recipient: id, State: d.State, Tries: d.Tries, At: quota.Time(d.At), Error: d.Error}
	if d.State == alert.Pending {
		out.Next = quota.Time(d.Next)
	}
	return out, ok
}

// nameAlerts sets the names of whom alerts are about, in one read a kind, and
// leaves out what is for the delivery alone.
func (s *Service) nameAlerts(ctx context.Context, org string, as []OrgAlert) error {
	ids := map[string][]string{}
	for i := range as {
		ids[as[i].Subject.Kind()] = append(ids[as[i].Subject.Kind()], as[i].Subject.ID())
	}
	names := map[quota.Subject]string{}
	for k := KindOrg; k <= KindKey; k++ {
		if len(ids[k.String()]) == 0 {
			continue
		}
		ls, err := s.store.Lookups(ctx, org, k, ids[k.String()])
		if err != nil {
			return err
		}
		for i := range ls {
			names[quota.NewSubject(k.String(), ids[k.String()][i])] = ls[i].Record.Name
		}
	}
	for i := range as {
		a := &as[i].Alert
		if name := names[a.Subject]; name != "" {
			a.Rename(name)
		}
		delete(a.Figures, alert.FigureSink)
	}
	return nil
}

// DeliveryFilter narrows a list of deliveries. The zero DeliveryFilter lets
// everything through, DefaultPage deliveries a page.
type DeliveryFilter struct {
	State  alert.State // 0: all; alert.Dead: the dead letters
	Limit  int         // of a page, 1 to MaxPage; 0 is DefaultPage
	Cursor string      // Page.Next of the page before
}

// RecipientDeliveries lists the alerts that went to a recipient, the newest
// first, each with this one delivery. Errors: ErrInvalid, ErrNotFound, and the
// store's.
func (s *Service) RecipientDeliveries(ctx context.Context, org, recipient string, f DeliveryFilter) (p Page[OrgAlert], err error) {
	if _, err := s.GetRecipient(ctx, org, recipient); err != nil {
		return p, err
	}
	if p, err = s.listDeliveries(ctx, org, recipient, f); err != nil {
		return p, fmt.Errorf("saccount: recipient deliveries: %w", s.mark(err))
	}
	return p, nil
}

func (s *Service) listDeliveries(ctx context.Context, org, recipient string, f DeliveryFilter) (p Page[OrgAlert], err error) {
	if f.Limit, err = pageLimit(f.Limit); err != nil {
		return p, err
	}
	q := alert.Query{Org: org, Sink: recipientSink + recipient, State: f.State, Newest: true, N: min(f.Limit+1, MaxPage)}
	if q.AfterSeq, err = openCursor(f.Cursor); err != nil {
		return p, err
	}
	ds, err := s.store.Deliveries(ctx, q)
	if err != nil {
		return p, err
	}
	for i := range ds[:min(len(ds), f.Limit)] {
		d, _ := toRecipient(&ds[i])
		p.Items = append(p.Items, OrgAlert{alert.Read(ds[i].Alert, ""), []RecipientDelivery{d}})
	}
	if len(ds) == q.N && len(p.Items) > 0 {
		p.Next = strconv.FormatInt(ds[len(p.Items)-1].Alert.Seq, 10)
	}
	return p, s.nameAlerts(ctx, org, p.Items)
}

// AlertSummary is what an overview of an organization says of its alerts.
type AlertSummary struct {
	// Passed are limits of living records of a kind that have passed a threshold
	// in the window that is now, as the alerts tell: for each limit the alert of
	// the furthest, those passed last first.
	Passed []alert.Alert
	More   bool // there are more than these
	// Since is how far back the alerts were looked at: who passed before it, and
	// nothing since, is not told. Zero: as far as the store has any.
	Since  time.Time
	Recent []OrgAlert // the newest, of every kind
}

// SummarizeAlerts looks at the newest 1,000 alerts of an organization for up to
// n limits of records of a kind, and up to n alerts (1 to MaxPage; 0 is
// DefaultPage). Of an organization that is not there it is empty. Errors:
// ErrInvalid, and the store's.
func (s *Service) SummarizeAlerts(ctx context.Context, org string, kind Kind, n int) (out AlertSummary, err error) {
	if err := s.begin("summarize alerts"); err != nil {
		return out, err
	}
	if out, err = s.summarize(ctx, org, kind, n); err != nil {
		return out, fmt.Errorf("saccount: summarize alerts: %w", s.mark(err))
	}
	return out, nil
}

func (s *Service) summarize(ctx context.Context, org string, kind Kind, n int) (out AlertSummary, err error) {
	if n, err = pageLimit(n); err != nil {
		return out, err
	}
	as, err := s.store.Alerts(ctx, alert.Recent{Org: org, N: MaxPage})
	if err != nil {
		return out, err
	}
	newest := as[:min(n, len(as))]
	sent, err := s.sentTo(ctx, org, newest)
	if err != nil {
		return out, err
	}
	for _, a := range newest {
		out.Recent = append(out.Recent, OrgAlert{alert.Read(a, ""), sent[a.Seq]})
	}
	if err := s.nameAlerts(ctx, org, out.Recent); err != nil {
		return out, err
	}
	if len(as) == MaxPage {
		out.Since = quota.Time(as[len(as)-1].At)
	}
	out.Passed, err = s.passed(ctx, org, kind, n+1, as)
	if len(out.Passed) > n {
		out.Passed, out.More = out.Passed[:n], true
	}
	return out, err
}

// passed finds the limits of living records whose window has not ended.
func (s *Service) passed(ctx context.Context, org string, kind Kind, n int, as []quota.Alert) (out []alert.Alert, err error) {
	type place struct {
		subject quota.Subject
		limit   string
	}
	now, at := s.now(), map[place]int{}
	var furthest []quota.Alert
	for _, a := range as {
		if a.Kind != "" || a.Subject.Kind() != kind.String() || a.End != 0 && a.End <= now.UnixMicro() {
			continue
		}
		p := place{a.Subject, a.Limit}
		if i, ok := at[p]; !ok {
			at[p] = len(furthest)
			furthest = append(furthest, a)
		} else if further(&a, &furthest[i]) {
			furthest[i] = a
		}
	}
	if len(furthest) == 0 {
		return nil, nil
	}
	ids := make([]string, len(furthest))
	for i := range furthest {
		ids[i] = furthest[i].Subject.ID()
	}
	ls, err := s.store.Lookups(ctx, org, kind, ids)
	if err != nil {
		return nil, err
	}
	for i := range ls {
		if len(out) == n {
			break
		}
		if ls[i].Record.ID == "" || ls[i].dead() {
			continue
		}
		r, err := readNode(ls[i].Record)
		if err != nil {
			return nil, err
		}
		if r.limit(furthest[i].Limit) != nil {
			out = append(out, alert.Read(furthest[i], r.Name))
		}
	}
	return out, nil
}

// further reports whether a tells of more than b, of one window: overage of more
// than any share, a greater share of more than a smaller.
func further(a, b *quota.Alert) bool {
	if a.Start != b.Start {
		return a.Start > b.Start
	}
	if (a.Threshold == quota.ThresholdOverage) != (b.Threshold == quota.ThresholdOverage) {
		return a.Threshold == quota.ThresholdOverage
	}
	return a.Threshold > b.Threshold
}
