package saccount

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// Recipient is who hears of an organization's alerts: a webhook or a mail
// address. It belongs to the organization, whoever made it or the keys.
type Recipient struct {
	ID     string       `json:"id"`
	Name   string       `json:"name,omitempty"`
	URL    string       `json:"url,omitempty"`   // a webhook, by Standard Webhooks
	Email  string       `json:"email,omitempty"` // or a mail address
	Filter alert.Filter `json:"filter,omitzero"`
	// Disabled gets nothing. Reason says why, where it was not a person.
	Disabled  bool      `json:"disabled,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy Actor     `json:"created_by,omitempty"`
	// OverlapEnds is until when the secret before the newest signs too.
	OverlapEnds time.Time `json:"overlap_ends,omitzero"`
	// Revision is 1 when it was added, and one more with each change.
	Revision int64 `json:"revision,omitempty"`

	// Which secrets sign: a version, derived from one of the host's.
	Secret signing `json:"secret,omitzero"`
	Before signing `json:"before,omitzero"`
}

// signing names a webhook's secret, which is derived and never stored.
type signing struct {
	Version int    `json:"version"`
	Host    string `json:"host"` // the id of the host's Secret that it is derived from
}

// RecipientSpec describes a recipient: a URL or an Email, not both.
type RecipientSpec struct {
	Name   string // up to 100 characters; may be empty
	URL    string
	Email  string
	Filter alert.Filter
}

// RecipientUpdate changes a recipient. A nil field is left as it is.
type RecipientUpdate struct {
	// Revision, where not zero, is the one that the caller read: where the
	// recipient has moved on, the update is refused with ErrConflict.
	Revision int64
	Name     *string
	URL      *string // of a webhook
	Email    *string // of a mail address
	Filter   *alert.Filter
	Disabled *bool
}

// MaxRecipients bounds the recipients of an organization.
const MaxRecipients = 32

// recipientSink begins the names of recipients' sinks.
const recipientSink = "recipient:"

// Masked is a recipient as everybody may see it who may see the organization,
// and as the audit log has it: without what may be secret, and without a
// person's address. Of a URL it has the host, of a mail address the first
// letter and the domain.
func (r Recipient) Masked() Recipient {
	if u, err := url.Parse(r.URL); err == nil && r.URL != "" {
		r.URL = u.Scheme + "://" + u.Host + "/…"
	}
	if at := strings.LastIndexByte(r.Email, '@'); at > 0 {
		_, n := utf8.DecodeRuneInString(r.Email)
		r.Email = r.Email[:n] + "…" + r.Email[at:]
	}
	return r
}

// revision is that of a recipient; one that was stored without has not been
// changed since.
func (r *Recipient) revision() int64 { return max(r.Revision, 1) }

// recipientSubject is what the Request of a change of a recipient is
// remembered with.
func recipientSubject(id string) quota.Subject { return quota.NewSubject("recipient", id) }

func (n *node) recipient(id string) *Recipient {
	for i := range n.Recipients {
		if n.Recipients[i].ID == id {
			return &n.Recipients[i]
		}
	}
	return nil
}

// checkRecipient checks what people wrote and can only be wrong by itself.
func (s *Service) checkRecipient(r *Recipient) (err error) {
	if r.Name, err = text("name", r.Name, 0, MaxName); err != nil {
		return err
	}
	if err := r.Filter.Validate(); err != nil {
		return within("/filter", s.mark(err))
	}
	switch {
	case (r.URL == "") == (r.Email == ""):
		return fieldf("/url", "recipient: give a URL or an email address, and not both")
	case r.URL != "":
		if len(s.secret.all) == 0 {
			return fieldf("/url", "recipient: webhooks need a secret to be signed with; the host sets Config.Secrets")
		}
		if err := s.alerts.hooks.Check(r.URL); err != nil {
			return within("/url", s.mark(err))
		}
	default:
		if s.cfg.Alerts.Email == nil {
			return fieldf("/email", "recipient: this service sends no mail; the host sets Config.Alerts.Email")
		}
		a, err := mail.ParseAddress(r.Email)
		if err != nil || a.Address != r.Email || len(r.Email) > 254 || strings.ContainsAny(r.Email, "\r\n") {
			return fieldf("/email", "recipient: %.60q is not a plain mail address", r.Email)
		}
	}
	return nil
}

// AddRecipient adds who hears of the organization's alerts from now on. The
// secret of a webhook is told by WebhookSecrets. Errors: ErrInvalid, ErrNotFound,
// and the store's.
func (s *Service) AddRecipient(ctx context.Context, by Actor, org string, spec RecipientSpec) (Recipient, error) {
	now := Micro(s.now())
	id, err := s.newID(now)
	if err != nil {
		return Recipient{}, err
	}
	r := Recipient{ID: "rcp_" + id, Name: spec.Name, URL: spec.URL, Email: spec.Email, Filter: spec.Filter, Created: now, CreatedBy: by, Revision: 1}
	if err := s.checkRecipient(&r); err != nil {
		return Recipient{}, fmt.Errorf("saccount: add recipient: %w", err)
	}
	if x, ok := s.secret.newest(); ok && r.URL != "" {
		r.Secret = signing{1, x.id}
	}
	_, err = s.change(doneAs(ctx, recipientSubject(r.ID)), by, org, KindOrg, org, 0, "add_recipient", func(n *node, _ *Batch) error {
		if len(n.Recipients) >= MaxRecipients {
			return invalidf("recipients: the organization has %d, the most there can be", len(n.Recipients))
		}
		n.Recipients = append(slices.Clone(n.Recipients), r)
		return nil
	})
	return r, err
}

// Recipients lists who hears of the organization's alerts, in the order they
// were added.
func (s *Service) Recipients(ctx context.Context, org string) ([]Recipient, error) {
	n, err := s.get(ctx, org, KindOrg, org, nil)
	if err != nil {
		return nil, err
	}
	for i := range n.Recipients {
		n.Recipients[i].Revision = n.Recipients[i].revision()
	}
	return n.Recipients, nil
}

// GetRecipient reads one of them. Errors: ErrNotFound, and the store's.
func (s *Service) GetRecipient(ctx context.Context, org, id string) (Recipient, error) {
	all, err := s.Recipients(ctx, org)
	if err != nil {
		return Recipient{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return Recipient{}, fmt.Errorf("saccount: get recipient %q: %w", id, ErrNotFound)
}

// UpdateRecipient changes a recipient. Errors: ErrInvalid, ErrNotFound,
// ErrConflict where it is not at the revision that was given, and the store's.
func (s *Service) UpdateRecipient(ctx context.Context, by Actor, org, id string, u RecipientUpdate) (out Recipient, err error) {
	err = s.changeRecipient(ctx, by, org, id, u.Revision, "update_recipient", func(r *Recipient, _ *Batch) error {
		if u.Name != nil {
			r.Name = *u.Name
		}
		if u.URL != nil {
			r.URL = *u.URL
		}
		if u.Email != nil {
			r.Email = *u.Email
		}
		if u.Filter != nil {
			r.Filter = *u.Filter
		}
		if u.Disabled != nil {
			r.Disabled, r.Reason = *u.Disabled, ""
		}
		if err := s.checkRecipient(r); err != nil {
			return err
		}
		if x, ok := s.secret.newest(); ok && r.URL != "" && r.Secret.Version == 0 {
			r.Secret = signing{1, x.id}
		}
		out = *r
		return nil
	})
	return out, err
}

// changeRecipient changes one recipient of an organization. revision, where not
// zero, must be the recipient's, and so must that of the context's Guard.
func (s *Service) changeRecipient(ctx context.Context, by Actor, org, id string, revision int64, action string, edit func(*Recipient, *Batch) error) error {
	g := guardOf(ctx)
	if revision == 0 {
		revision = g.Revision
	}
	g.Revision = 0 // it is not the organization's
	_, err := s.change(doneAs(WithGuard(ctx, g), recipientSubject(id)), by, org, KindOrg, org, 0, action, func(n *node, b *Batch) error {
		n.Recipients = slices.Clone(n.Recipients)
		r := n.recipient(id)
		if r == nil {
			return fmt.Errorf("recipient %q: %w", id, ErrNotFound)
		}
		if revision != 0 && revision != r.revision() {
			return fmt.Errorf("recipient %q: %w: it is at revision %d, not %d; read it again", id, ErrConflict, r.revision(), revision)
		}
		r.Revision = r.revision() + 1
		if err := edit(r, b); err != nil {
			return err
		}
		n.Recipients = slices.DeleteFunc(n.Recipients, func(r Recipient) bool { return r.ID == "" })
		return nil
	})
	return err
}

// RemoveRecipient removes a recipient. What was on its way to it becomes a dead
// letter.
func (s *Service) RemoveRecipient(ctx context.Context, by Actor, org, id string) error {
	return s.changeRecipient(ctx, by, org, id, 0, "remove_recipient", func(r *Recipient, _ *Batch) error {
		r.ID = "" // which none has
		return nil
	})
}

// MaxWebhookOverlap bounds how long two secrets of a webhook sign.
const MaxWebhookOverlap = 30 * 24 * time.Hour

// RotateWebhookSecret gives a webhook a new secret, derived from the newest of
// the host's. Until overlap is over the one before signs too: messages carry
// both signatures, and receivers change from one to the other in between. Zero
// ends it at once. Errors: ErrInvalid, ErrNotFound, and the store's.
func (s *Service) RotateWebhookSecret(ctx context.Context, by Actor, org, id string, overlap time.Duration) error {
	if overlap < 0 || overlap > MaxWebhookOverlap {
		return fmt.Errorf("saccount: rotate webhook secret: %w overlap %v: give 0 to %v", ErrInvalid, overlap, MaxWebhookOverlap)
	}
	return s.changeRecipient(ctx, by, org, id, 0, "rotate_webhook_secret", func(r *Recipient, b *Batch) error {
		x, ok := s.secret.newest()
		if r.URL == "" || !ok {
			return invalidf("recipient %q: it is no webhook", id)
		}
		r.Before, r.OverlapEnds = r.Secret, b.At.Add(overlap)
		r.Secret = signing{r.Secret.Version + 1, x.id}
		return nil
	})
}

// WebhookSecrets are the secrets that sign what is sent to a webhook now, the
// newest first: one, or two while they are changed. They are derived whenever
// they are needed and stored nowhere; show them to nobody but who may manage the
// organization. Errors: ErrNotFound, ErrInvalid where it is no webhook or the
// host's Secret is no longer among Config.Secrets, and the store's.
func (s *Service) WebhookSecrets(ctx context.Context, org, id string) ([]alert.Secret, error) {
	n, err := s.get(ctx, org, KindOrg, org, nil)
	if err != nil {
		return nil, err
	}
	r := n.recipient(id)
	if r == nil {
		return nil, fmt.Errorf("saccount: webhook secrets: recipient %q: %w", id, ErrNotFound)
	}
	out, err := s.signs(org, r)
	if err != nil {
		return nil, fmt.Errorf("saccount: webhook secrets: %w", err)
	}
	return out, nil
}

func (s *Service) signs(org string, r *Recipient) (out []alert.Secret, err error) {
	use := []signing{r.Secret}
	if r.Before.Version != 0 && s.now().Before(r.OverlapEnds) {
		use = append(use, r.Before)
	}
	for _, u := range use {
		x, ok := s.secret.find(u.Host)
		if !ok || r.URL == "" {
			return nil, invalidf("recipient %q: it is no webhook, or its secret was derived from the host's secret %q, which is not given any more", r.ID, u.Host)
		}
		key, err := x.derive("webhook", org, r.ID, strconv.Itoa(u.Version))
		if err != nil {
			return nil, err
		}
		sec, err := alert.NewSecret(key)
		if err != nil {
			return nil, err
		}
		out = append(out, sec)
	}
	return out, nil
}

// routes are an organization's own sinks.
func (a *alerts) routes(ctx context.Context, org string) ([]alert.Route, error) {
	l, err := a.service.lookup(ctx, org, KindOrg, org)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !l.Record.Deleted.IsZero():
		return nil, nil
	}
	n, err := readNode(l.Record)
	if err != nil {
		return nil, err
	}
	var out []alert.Route
	for i := range n.Recipients {
		r := &n.Recipients[i]
		if r.Disabled {
			continue
		}
		sink, err := a.sink(org, r)
		if err != nil {
			why := err
			// It gets dead letters that say why, and can be mended and replayed.
			sink = alert.Func(func(context.Context, alert.Alert) error { return why })
		}
		out = append(out, alert.Route{Name: recipientSink + r.ID, Sink: sink, Filter: r.Filter})
	}
	return out, nil
}

func (a *alerts) sink(org string, r *Recipient) (alert.Sink, error) {
	if r.Email != "" {
		return alert.Mail(a.service.cfg.Alerts.Email, r.Email)
	}
	secrets, err := a.service.signs(org, r)
	if err != nil {
		return nil, err
	}
	return a.hooks.Sink(r.URL, secrets...)
}

// actorAlerts is who disables what answered that it is gone.
const actorAlerts Actor = "system:alerts"

// gone disables a recipient that said so, and tells the others.
func (a *alerts) gone(ctx context.Context, org, sink string, why error) {
	id, ok := strings.CutPrefix(sink, recipientSink)
	if !ok {
		return // the host's own sinks are the host's
	}
	err := a.service.changeRecipient(ctx, actorAlerts, org, id, 0, "disable_recipient", func(r *Recipient, b *Batch) error {
		if r.Disabled {
			return errUnchanged
		}
		r.Disabled, r.Reason = true, why.Error()
		p, err := alert.New(alert.KindWebhookGone, quota.NewSubject(quota.KindOrg, org), r.ID+b.At.String(), b.At, b.At.Add(episodeKept),
			map[string]string{alert.FigureAddress: r.Masked().URL, alert.FigureReason: why.Error(), "recipient": r.ID})
		b.Alerts = append(b.Alerts, p)
		return err
	})
	if err != nil {
		a.service.log.Warn("keypurse: a webhook that is gone could not be disabled", "org", org, "recipient", id, "error", err)
	}
}
