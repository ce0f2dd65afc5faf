package alert_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// eighty is an alert as a sink gets it.
func eighty() alert.Alert {
	at := time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC)
	return alert.Read(quota.Alert{
		Seq: 1, Org: "acme", Subject: "account:sa1", Limit: "credits", Threshold: quota.Percent(80),
		Max: 100 * quota.Credit, Used: 81 * quota.Credit, At: at.UnixMicro(),
	}, "Production Worker")
}

func ExampleFunc() {
	sink := alert.Func(func(_ context.Context, a alert.Alert) error {
		fmt.Println(a.Kind, a.Subject, *a.Threshold)
		fmt.Println(a.Text)
		return nil
	})
	_ = sink.Send(context.Background(), eighty())
	// Output:
	// threshold account:sa1 80%
	// Service account “Production Worker” has spent 81 credits, 80% or more of its limit of 100 credits.
}

func ExampleLog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "id" {
			return slog.Attr{}
		}
		return a
	}}))
	_ = alert.Log(logger).Send(context.Background(), eighty())
	// Output:
	// level=WARN msg="Service account “Production Worker” has spent 81 credits, 80% or more of its limit of 100 credits." kind=threshold org=acme subject=account:sa1 at=2026-03-10T12:00:00.000Z limit=credits max=100 used=81 overage=0 threshold=80%
}

func ExampleMail() {
	send := func(_ context.Context, m alert.Email) error { // as the host sends its letters
		fmt.Println("To:", m.To)
		fmt.Println("Subject:", m.Subject)
		return nil
	}
	sink, err := alert.Mail(send, "ops@example.com")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = sink.Send(context.Background(), eighty())
	// Output:
	// To: [ops@example.com]
	// Subject: Service account “Production Worker” has spent 81 credits, 80% or more of its limit of 100 credits
}

func ExampleWebhooks_Sink() {
	secret, err := alert.NewSecret([]byte("32 random bytes, from crypto/rand"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// The receiver's side, with the library of Standard Webhooks.
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 20_000))
		check, err := webhooks.NewWebhook(secret.Reveal())
		if err == nil {
			err = check.Verify(body, r.Header)
		}
		fmt.Println("signature:", err)
	}))
	defer receiver.Close()

	// A machine's own addresses are refused unless the host allows them.
	hooks := alert.NewWebhooks(alert.WebhookConfig{
		AllowHTTP: true, Ports: []uint16{}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	sink, err := hooks.Sink(receiver.URL, secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("sent:", sink.Send(context.Background(), eighty()))
	// Output:
	// signature: <nil>
	// sent: <nil>
}
