package dashboard

import (
	"errors"
	"reflect"
	"time"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/saccount"
)

// recipientSpec is what can be set of a recipient.
type recipientSpec struct {
	Name   string       `json:"name,omitempty" doc:"up to 100 characters"`
	URL    string       `json:"url,omitempty" doc:"of a webhook, by Standard Webhooks: https, at an address outside of internal networks"`
	Email  string       `json:"email,omitempty" doc:"or a mail address"`
	Filter alert.Filter `json:"filter,omitzero" doc:"which alerts it gets; absent: all"`
}

// recipientView is a recipient as it is shown. Whoever has not the role manage
// sees addresses masked.
type recipientView struct {
	ID          string          `json:"id"`
	Name        string          `json:"name,omitempty"`
	URL         string          `json:"url,omitempty" doc:"the host alone for those without the role manage"`
	Email       string          `json:"email,omitempty" doc:"the first letter and the domain for those without the role manage"`
	Filter      alert.Filter    `json:"filter,omitzero" doc:"absent: all alerts"`
	Status      saccount.Status `json:"status"`
	Reason      string          `json:"reason,omitempty" doc:"why it is disabled, where that was not a person's wish"`
	Created     time.Time       `json:"created"`
	CreatedBy   saccount.Actor  `json:"created_by,omitempty"`
	OverlapEnds time.Time       `json:"overlap_ends,omitzero" doc:"until when the secret before the newest signs too"`
	Revision    int64           `json:"revision"`
}

// recipientMade is the answer that shows a webhook's newest secret.
type recipientMade struct {
	recipientView
	Secret string `json:"secret,omitempty" doc:"of a webhook: what signs its messages; show it to the receiver alone"`
	Notice string `json:"notice,omitempty" doc:"where the secret is not shown: why"`
}

func (recipientMade) withoutToken(v any) any {
	r := recipientMade{recipientView: v.(recipientView)}
	if r.URL != "" {
		r.Notice = "The secret was shown by the first answer to this request; read it from secrets, below the recipient."
	}
	return r
}

// recipientReplayed is the answer to a replay.
type recipientReplayed struct {
	recipientView
	Replayed int    `json:"replayed" doc:"dead letters that are tried again, at once and by the whole schedule"`
	Notice   string `json:"notice,omitempty" doc:"where nothing was replayed: why"`
}

func (recipientReplayed) withoutToken(v any) any {
	return recipientReplayed{recipientView: v.(recipientView), Notice: "This request was done before."}
}

// replaySpec says which dead letters are tried again.
type replaySpec struct {
	Alerts []string `json:"alerts,omitempty" doc:"ids of alerts; absent: all dead letters of the recipient"`
}

type webhookSecrets struct {
	Secrets []string `json:"secrets" doc:"the newest first; two while they are changed"`
}

// viewRecipient shows a recipient to the caller.
func (c *call) viewRecipient(r saccount.Recipient) recipientView {
	if c.caller.Role < saccount.RoleManage {
		r = r.Masked()
	}
	v := recipientView{
		ID: r.ID, Name: r.Name, URL: r.URL, Email: r.Email, Filter: r.Filter, Status: statusOf(r.Disabled, time.Time{}), Reason: r.Reason,
		Created: r.Created, CreatedBy: r.CreatedBy, Revision: r.Revision,
	}
	if r.OverlapEnds.After(c.cfg.Now()) {
		v.OverlapEnds = r.OverlapEnds
	}
	return v
}

func recipientRoutes() []*route {
	const all, one = "orgs/{org}/recipients", "orgs/{org}/recipients/{id}"
	set := func(disabled bool) func(c *call) (*reply, error) {
		return func(c *call) (*reply, error) {
			if err := c.empty(); err != nil {
				return nil, err
			}
			r, err := c.svc.UpdateRecipient(c.guarded, c.caller.Actor, c.org(), c.id(), saccount.RecipientUpdate{Disabled: &disabled})
			return c.recipient(r, err)
		}
	}
	return []*route{
		{method: "GET", path: "orgs/{org}/alerts", id: "listAlerts", about: "List an organization's alerts, the newest first, and what became of them. A page of a rare kind may have fewer items than asked for, and a next.", role: view, query: alertParams, result: page[orgAlertView]{}, status: 200, do: listAlerts},
		{method: "GET", path: all, id: "listRecipients", about: "List who hears of an organization's alerts.", role: view, result: page[recipientView]{}, status: 200, do: listRecipients},
		{method: "POST", path: all, id: "createRecipient", about: "Add who hears of an organization's alerts: a webhook, whose secret the answer shows, or a mail address.", role: manage, body: recipientSpec{}, result: recipientMade{}, status: 201, once: true, tagged: true, do: createRecipient},
		{method: "GET", path: one, id: "getRecipient", about: "Read a recipient.", role: view, result: recipientView{}, status: 200, tagged: true, do: readRecipient},
		{method: "PATCH", path: one, id: "updateRecipient", about: "Change a recipient by a JSON merge patch (RFC 7396): what is left out is unchanged, null clears.", role: manage, body: recipientSpec{}, result: recipientView{}, status: 200, match: matchNeeded, tagged: true, do: patchRecipient},
		{method: "DELETE", path: one, id: "deleteRecipient", about: "Remove a recipient. What was on its way becomes a dead letter.", role: manage, status: 204, match: matchMay, do: deleteRecipient},
		{method: "POST", path: one + "/disable", id: "disableRecipient", about: "Send nothing to a recipient from now on.", role: manage, result: recipientView{}, status: 200, match: matchMay, once: true, tagged: true, do: set(true)},
		{method: "POST", path: one + "/enable", id: "enableRecipient", about: "Send to a recipient again.", role: manage, result: recipientView{}, status: 200, match: matchMay, once: true, tagged: true, do: set(false)},
		{method: "GET", path: one + "/secrets", id: "getRecipientSecrets", about: "Read the secrets that sign what is sent to a webhook now.", role: manage, result: webhookSecrets{}, status: 200, do: readSecrets},
		{method: "POST", path: one + "/rotate-secret", id: "rotateRecipientSecret", about: "Give a webhook a new secret, which the answer shows; the one before signs too until the overlap is over.", role: manage, body: rotation{}, result: recipientMade{}, status: 200, match: matchMay, once: true, tagged: true, do: rotateSecret},
		{method: "POST", path: one + "/test", id: "testRecipient", about: "Send a test alert to a recipient. Its deliveries tell what came of it.", role: manage, result: recipientView{}, status: 202, once: true, tagged: true, do: testRecipient},
		{method: "GET", path: one + "/deliveries", id: "listRecipientDeliveries", about: "List what was sent to a recipient, the newest first; with state dead, its dead letters.", role: view, query: sentParams, result: page[sentView]{}, status: 200, do: listDeliveries},
		{method: "POST", path: one + "/replay", id: "replayRecipient", about: "Try dead letters of a recipient again.", role: manage, body: replaySpec{}, result: recipientReplayed{}, status: 200, once: true, tagged: true, do: replayRecipient},
	}
}

// recipient answers with a recipient.
func (c *call) recipient(r saccount.Recipient, err error) (*reply, error) {
	return replied(c.viewRecipient(r), r.Revision, "", err)
}

func listRecipients(c *call) (*reply, error) {
	if _, err := c.values(); err != nil {
		return nil, err
	}
	all, err := c.svc.Recipients(c.ctx, c.org())
	if err != nil {
		return nil, err
	}
	return &reply{body: pageOf(saccount.Page[saccount.Recipient]{Items: all}, saccount.Filter{}, c.viewRecipient)}, nil
}

func createRecipient(c *call) (*reply, error) {
	var in recipientSpec
	if err := c.read(&in); err != nil {
		return nil, err
	}
	r, err := c.svc.AddRecipient(c.guarded, c.caller.Actor, c.org(), saccount.RecipientSpec{Name: in.Name, URL: in.URL, Email: in.Email, Filter: in.Filter})
	if err != nil {
		return nil, err
	}
	re, err := c.withSecret(r)
	if err == nil {
		re.location = "recipients/" + r.ID
	}
	return re, err
}

// withSecret answers with a recipient and its newest secret.
func (c *call) withSecret(r saccount.Recipient) (*reply, error) {
	m := recipientMade{recipientView: c.viewRecipient(r)}
	if r.URL != "" {
		all, err := c.svc.WebhookSecrets(c.ctx, c.org(), r.ID)
		if err != nil {
			return nil, err
		}
		m.Secret = all[0].Reveal()
	}
	return &reply{body: m, revision: r.Revision}, nil
}

func readRecipient(c *call) (*reply, error) {
	if _, err := c.values(); err != nil {
		return nil, err
	}
	return c.recipient(c.svc.GetRecipient(c.ctx, c.org(), c.id()))
}

func patchRecipient(c *call) (*reply, error) {
	body, err := c.raw(typePatch, typeJSON)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		r, err := c.svc.GetRecipient(c.ctx, c.org(), c.id())
		if err != nil {
			return nil, err
		}
		if c.match.revision != 0 && c.match.revision != r.Revision {
			return nil, saccount.ErrConflict
		}
		was := recipientSpec{Name: r.Name, URL: r.URL, Email: r.Email, Filter: r.Filter}
		now, err := patch(body, was)
		if err != nil {
			return nil, err
		}
		u := saccount.RecipientUpdate{Revision: r.Revision, Name: differs(was.Name, now.Name), URL: differs(was.URL, now.URL), Email: differs(was.Email, now.Email)}
		if !reflect.DeepEqual(was.Filter, now.Filter) {
			u.Filter = &now.Filter
		}
		next, err := c.svc.UpdateRecipient(c.ctx, c.caller.Actor, c.org(), c.id(), u)
		if err == nil || c.match.revision != 0 || try == maxTries || !errors.Is(err, saccount.ErrConflict) {
			return c.recipient(next, err)
		}
	}
}

func deleteRecipient(c *call) (*reply, error) {
	if err := c.empty(); err != nil {
		return nil, err
	}
	if err := c.svc.RemoveRecipient(c.guarded, c.caller.Actor, c.org(), c.id()); err != nil {
		return nil, err
	}
	return &reply{}, nil
}

func readSecrets(c *call) (*reply, error) {
	if _, err := c.values(); err != nil {
		return nil, err
	}
	all, err := c.svc.WebhookSecrets(c.ctx, c.org(), c.id())
	if err != nil {
		return nil, err
	}
	out := webhookSecrets{}
	for _, s := range all {
		out.Secrets = append(out.Secrets, s.Reveal())
	}
	return &reply{body: out}, nil
}

func rotateSecret(c *call) (*reply, error) {
	var in rotation
	if err := c.readMay(&in); err != nil {
		return nil, err
	}
	overlap, err := in.overlap()
	if err != nil {
		return nil, err
	}
	if err := c.svc.RotateWebhookSecret(c.guarded, c.caller.Actor, c.org(), c.id(), overlap); err != nil {
		return nil, err
	}
	r, err := c.svc.GetRecipient(c.ctx, c.org(), c.id())
	if err != nil {
		return nil, err
	}
	return c.withSecret(r)
}

func testRecipient(c *call) (*reply, error) {
	if err := c.empty(); err != nil {
		return nil, err
	}
	if err := c.svc.TestAlert(c.guarded, c.caller.Actor, c.org(), c.id()); err != nil {
		return nil, err
	}
	return c.recipient(c.svc.GetRecipient(c.ctx, c.org(), c.id()))
}

func replayRecipient(c *call) (*reply, error) {
	var in replaySpec
	if err := c.readMay(&in); err != nil {
		return nil, err
	}
	n, err := c.svc.ReplayRecipient(c.guarded, c.caller.Actor, c.org(), c.id(), in.Alerts...)
	if err != nil {
		return nil, err
	}
	r, err := c.svc.GetRecipient(c.ctx, c.org(), c.id())
	if err != nil {
		return nil, err
	}
	return &reply{body: recipientReplayed{recipientView: c.viewRecipient(r), Replayed: n}, revision: r.Revision}, nil
}
