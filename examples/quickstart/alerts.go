package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/saccount"
)

// hostSecret reads the secret that webhooks' secrets are derived from, and makes
// it on the first start. A service in production has it from its secret manager.
func hostSecret(file string) (saccount.Secret, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, saccount.MinSecretLen)
		if _, err := rand.Read(key); err != nil {
			return saccount.Secret{}, err
		}
		err = os.WriteFile(file, key, 0o600)
	}
	return saccount.Secret{ID: "quickstart", Key: key}, err
}

// alerts prints every alert. Webhooks may go to this machine, which a service on
// the internet must never let its customers do.
func alerts(out io.Writer) saccount.Alerts {
	return saccount.Alerts{
		Sinks: []alert.Route{{Name: "terminal", Sink: alert.Func(func(_ context.Context, a alert.Alert) error {
			_, err := fmt.Fprintln(out, "Alert:", a.Text)
			return err
		})}},
		Webhooks: alert.WebhookConfig{
			AllowHTTP: true, Ports: []uint16{},
			Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		},
	}
}

// setWebhook makes the webhook a recipient of the organization's alerts, where
// it is none yet, prints its secret, and sends it a test.
func setWebhook(ctx context.Context, svc *saccount.Service, out io.Writer, url string) error {
	all, err := svc.Recipients(ctx, orgID)
	if err != nil {
		return err
	}
	id := ""
	for _, r := range all {
		if r.URL == url && !r.Disabled {
			id = r.ID
		}
	}
	if id == "" {
		r, err := svc.AddRecipient(ctx, actor, orgID, saccount.RecipientSpec{Name: "Quickstart", URL: url})
		if err != nil {
			return err
		}
		id = r.ID
	}
	secrets, err := svc.WebhookSecrets(ctx, orgID, id)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAlerts are posted to %s, signed with this secret:\n\nexport WEBHOOK_SECRET=%s\n", url, secrets[0].Reveal())
	return svc.TestAlert(ctx, actor, orgID, id)
}
