package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keypurse/keypurse/quota"
)

// Message is the body of a webhook, by Standard Webhooks
// (https://www.standardwebhooks.com): a type, a time, and what happened.
type Message struct {
	Type      string    `json:"type"`      // "alert." and the kind
	Timestamp time.Time `json:"timestamp"` // when it happened
	Data      Alert     `json:"data"`
}

// Sink posts alerts to address, signed with each of the secrets: more than one
// while receivers change from one to the next. The headers webhook-id (the
// alert's ID, the same on every try), webhook-timestamp (of this try) and
// webhook-signature are those of Standard Webhooks.
//
// A status of 2xx is success; all others, redirects among them, are failures.
// 410 says that the endpoint is gone. Retry-After is honoured. Nothing of the
// answer's body is read. Errors wrap quota.ErrInvalid: an address that Check
// refuses, or no secret.
func (w *Webhooks) Sink(address string, secrets ...Secret) (Sink, error) {
	if err := w.Check(address); err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("alert: webhook: %w secrets: none given", quota.ErrInvalid)
	}
	for _, s := range secrets {
		if len(s.key) == 0 {
			return nil, fmt.Errorf("alert: webhook: %w secret: it is empty; see NewSecret", quota.ErrInvalid)
		}
	}
	return &webhook{w, address, secrets}, nil
}

type webhook struct {
	from    *Webhooks
	address string
	secrets []Secret
}

// Send implements Sink.
func (h *webhook) Send(ctx context.Context, a Alert) error {
	body, err := json.Marshal(Message{Type: "alert." + string(a.Kind), Timestamp: a.At, Data: a})
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.address, bytes.NewReader(body))
	if err != nil {
		return errors.New("webhook: the address is not a URL")
	}
	now := h.from.cfg.Now()
	var signatures []string
	for _, s := range h.secrets {
		sign, err := webhooks.NewWebhookRaw(s.key)
		if err != nil {
			return fmt.Errorf("webhook: %w", err)
		}
		signature, err := sign.Sign(a.ID, now, body)
		if err != nil {
			return fmt.Errorf("webhook: %w", err)
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set(webhooks.HeaderWebhookID, a.ID)
	req.Header.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(webhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "keypurse")
	res, err := h.from.client.Do(req)
	if err != nil {
		return failed(err)
	}
	_ = res.Body.Close() // nothing of it is of use
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	f := &Failure{RetryAfter: retryAfter(res.Header.Get("Retry-After"), now), Gone: res.StatusCode == http.StatusGone}
	f.Err = fmt.Errorf("the webhook answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		f.Err = fmt.Errorf("%w; redirects are not followed: give the address where it leads", f.Err)
	}
	return f
}

// failed says what went wrong without the address, which may hold a secret, and
// without what names of the host's own network resolve to.
func failed(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, ErrProhibited):
		return fmt.Errorf("webhook: %w", ErrProhibited)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("webhook: no answer in time")
	case errors.As(err, &dns):
		return errors.New("webhook: its host has no address")
	case errors.As(err, &op):
		return fmt.Errorf("webhook: the connection failed: %w", op.Err)
	}
	return fmt.Errorf("webhook: %w", err)
}

// retryAfter reads the header: seconds, or a date (RFC 9110, 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
