package alert_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// A name that a customer chose is text in a letter, in the HTML and in the head.
func TestLetters(t *testing.T) {
	var got []alert.Email
	sink, err := alert.Mail(func(_ context.Context, m alert.Email) error { got = append(got, m); return nil }, "ops@example.com", "team@example.com")
	require.NoError(t, err)
	a := alert.Read(quota.Alert{Seq: 1, Org: "acme", Subject: "key:k1", Limit: "credits", Threshold: 80, Max: 100 * quota.Credit, Used: 80 * quota.Credit, At: start.UnixMicro()},
		"x\r\nBcc: all@example.com\u2028<script>alert(1)</script>"+strings.Repeat("y", 200))
	require.NoError(t, sink.Send(ctx, a))
	require.Len(t, got, 1)
	m := got[0]
	assert.Equal(t, []string{"ops@example.com", "team@example.com"}, m.To)
	assert.False(t, strings.ContainsAny(m.Subject, "\r\n\u2028"), "one line: %q", m.Subject)
	assert.LessOrEqual(t, len([]rune(m.Subject)), 120)
	assert.NotContains(t, m.HTML, "<script>")
	assert.Contains(t, m.HTML, "&lt;script&gt;")
	assert.True(t, strings.HasPrefix(m.HTML, "<!doctype html>"))
	for _, part := range []string{a.ID, "100 credits", "80 credits", "80%", "acme", "2026-03-10T12:00:00Z"} {
		assert.Contains(t, m.Text, part)
		assert.Contains(t, m.HTML, part)
	}
	assert.Equal(t, a, m.Alert)
	failing, err := alert.Mail(func(context.Context, alert.Email) error { return errors.New("the mail server is away") }, "ops@example.com")
	require.NoError(t, err)
	assert.Error(t, failing.Send(ctx, a))
	_, err = alert.Mail(nil, "ops@example.com")
	assert.ErrorIs(t, err, quota.ErrInvalid)
	_, err = alert.Mail(func(context.Context, alert.Email) error { return nil })
	assert.ErrorIs(t, err, quota.ErrInvalid)
}
