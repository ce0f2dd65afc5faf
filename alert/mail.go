package alert

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Email is an alert as a letter, for the host to send.
type Email struct {
	To      []string // one letter each or one for all: the host's choice
	Subject string   // one line
	Text    string   // text/plain; charset=utf-8
	HTML    string   // text/html; charset=utf-8, a whole document without pictures and scripts
	Alert   Alert    // Alert.ID makes a good Message-ID: a second letter of it can be told
}

// EmailFunc sends a letter as the host sends its letters. It returns when the
// letter was taken over for sending.
type EmailFunc func(ctx context.Context, m Email) error

//go:embed templates/mail.html
var templates embed.FS

// Mail is a Sink that hands letters to send.
func Mail(send EmailFunc, to ...string) (Sink, error) {
	if send == nil || len(to) == 0 {
		return nil, fmt.Errorf("alert: mail: %w sink: it needs a function and at least one address", quota.ErrInvalid)
	}
	page, err := template.ParseFS(templates, "templates/mail.html")
	if err != nil {
		return nil, fmt.Errorf("alert: mail: %w", err)
	}
	to = slices.Clone(to)
	return Func(func(ctx context.Context, a Alert) error {
		m, err := letter(page, a)
		if err != nil {
			return err
		}
		m.To = slices.Clone(to)
		return send(ctx, m)
	}), nil
}

// line is a figure as it is shown.
type line struct{ Name, Value string }

func letter(page *template.Template, a Alert) (Email, error) {
	m := Email{Subject: subject(a), Alert: a}
	lines := a.lines()
	var html bytes.Buffer
	if err := page.Execute(&html, map[string]any{"Subject": m.Subject, "Text": a.Text, "Lines": lines}); err != nil {
		return m, fmt.Errorf("alert: mail: %w", err)
	}
	m.HTML = html.String()
	var text strings.Builder
	text.WriteString(a.Text + "\n\n")
	for _, l := range lines {
		fmt.Fprintf(&text, "%s: %s\n", l.Name, l.Value)
	}
	m.Text = text.String()
	return m, nil
}

// subject is the sentence's beginning, as one line of at most 120 characters.
func subject(a Alert) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, a.Text)
	s = strings.TrimSuffix(s, ".")
	if r := []rune(s); len(r) > 120 {
		s = strings.TrimSpace(string(r[:119])) + "…"
	}
	return s
}

func (a *Alert) lines() []line {
	out := []line{{"Organization", a.Org}}
	add := func(name, value string) {
		if value != "" {
			out = append(out, line{name, value})
		}
	}
	if a.Subject.Kind() != quota.KindOrg {
		add(strings.ToUpper(a.Subject.Kind()[:1])+a.Subject.Kind()[1:], strings.TrimSpace(a.Name+" ("+a.Subject.ID()+")"))
	}
	if a.Limit != "" {
		add("Limit", a.Limit)
		add("Max", a.Max.String()+" credits")
		add("Used", a.Used.String()+" credits")
		if *a.Overage != 0 {
			add("Overage", a.Overage.String()+" credits")
		}
		if !a.End.IsZero() {
			add("Window", a.Start.Format(time.RFC3339)+" to "+a.End.Format(time.RFC3339))
		}
	}
	if a.Threshold != nil {
		add("Threshold", a.Threshold.String())
	}
	for _, k := range slices.Sorted(maps.Keys(a.Figures)) {
		add(strings.ToUpper(k[:min(1, len(k))])+k[min(1, len(k)):], a.Figures[k])
	}
	add("Time", a.At.Format(time.RFC3339))
	add("Alert", a.ID)
	return out
}
