package saccount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
)

// Actors of changes that nobody asked for by hand.
const (
	ActorLeak   Actor = "system:leak"   // ReportLeak
	ActorPolicy Actor = "system:policy" // EnforceKeyPolicy
)

// Leak is a token that was found where it should not be.
type Leak struct {
	Token  string // as it was found; spaces around it are passed over
	Source string // who found it: "github", "mail from a user"; for the audit log
	URL    string // where; for the audit log. It may be hostile: never fetch it by itself
}

// Leaked is what ReportLeak found, for the host's eyes: a stranger who may hand
// in tokens must not be able to tell one answer from another. Package leak has
// handlers that see to it.
type Leaked struct {
	Real     bool          // the token is, or was, that of a key which is not deleted
	Org      string        // of the key; HostPartition of a management key of the host
	Subject  quota.Subject // the key: "key:..." or "management_key:..."
	Disabled bool          // this call disabled it
}

// leakQuiet is how long the report of a leak that is known is not written again.
const leakQuiet = 24 * time.Hour

// maxReason bounds AuditEntry.Reason, in characters.
const maxReason = 500

// ReportLeak takes a token that was found in public. Where it is real, the key
// is disabled at once and the secret ends for good, so that the key comes back
// only with another (RotateKey, EnableKey); that is audited by ActorLeak, as
// "report_leak", with where it was found as the Reason. Both secrets of a key
// that is being rotated are real, of service accounts' keys and management
// keys alike. A secret that had ended already, a key that is disabled or
// expired, and one whose account was deleted, are audited too; the same again
// within a day is not. A deleted key's token is unknown, like any other.
//
// An unknown token and a real one cost the same hashing, and a real one a write
// on top: do not let a stranger measure it. Errors are the store's: report the
// token again.
func (s *Service) ReportLeak(ctx context.Context, l Leak) (Leaked, error) {
	if err := s.begin("report leak"); err != nil {
		return Leaked{}, err
	}
	out, err := s.reportLeak(ctx, l)
	if err != nil {
		return out, fmt.Errorf("saccount: report leak: %w", err)
	}
	return out, nil
}

func (s *Service) reportLeak(ctx context.Context, l Leak) (out Leaked, err error) {
	kind := KindKey
	p, err := apikey.Parse(strings.TrimSpace(l.Token), s.prefix)
	if err != nil && s.managePrefix != (apikey.Prefix{}) {
		kind = KindManagementKey
		p, err = apikey.Parse(strings.TrimSpace(l.Token), s.managePrefix)
	}
	if err != nil {
		return out, nil // whoever has it can tell that too
	}
	line, err := s.store.Lookup(ctx, "", kind, p.ID)
	if errors.Is(err, ErrNotFound) {
		s.hasher.Dummy(p)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	n, err := readNode(line.Record)
	if err != nil {
		return out, err
	}
	if n.holding(s.hasher, p) < 0 {
		return out, nil
	}
	out = Leaked{Real: true, Org: n.Org, Subject: n.subject()}
	ctx = because(ctx, l.reason())
	if line.dead() {
		// What lies in a deleted account or organization is not changed any more.
		b := Batch{Org: n.Org, At: Micro(s.now())}
		if err := s.noteChange(ctx, &b, ActorLeak, "report_leak", nil, n, b.At); err != nil {
			return out, err
		}
		if err := leaked(&b, n, l, false); err != nil {
			return out, err
		}
		return out, s.store.Write(ctx, b)
	}
	_, err = s.change(ctx, ActorLeak, n.Org, kind, n.ID, 0, "report_leak", func(n *node, b *Batch) error {
		out.Disabled = false
		i := n.holding(s.hasher, p)
		if i < 0 {
			return errUnchanged // it was rotated away
		}
		lives := n.Secrets[i].Ends.IsZero() || b.At.Before(n.Secrets[i].Ends)
		if !lives && !n.Leaked.IsZero() && b.At.Sub(n.Leaked) < leakQuiet {
			return errUnchanged
		}
		n.Leaked = b.At
		if lives {
			n.Secrets = slices.Clone(n.Secrets)
			n.Secrets[i].Ends = b.At
			out.Disabled, n.Disabled = !n.Disabled, true
		}
		return leaked(b, n, l, out.Disabled)
	})
	return out, err
}

// leaked puts the alert of a leak into the outbox, in the step of its change,
// at most once a day where nothing is disabled.
func leaked(b *Batch, n *node, l Leak, disabled bool) error {
	episode := b.At
	if !disabled {
		episode = b.At.Truncate(leakQuiet)
	}
	p, err := alert.New(alert.KindKeyLeaked, n.subject(), strconv.FormatBool(disabled)+" "+episode.Format(time.RFC3339Nano), b.At, b.At.Add(leakQuiet), map[string]string{
		alert.FigureName: n.Name, alert.FigureReason: l.reason(), alert.FigureDisabled: strconv.FormatBool(disabled), "account": n.Parent,
	})
	b.Alerts = append(b.Alerts, p)
	return err
}

// holding is the place of the secret that a token is of; -1 where it is of
// none. It looks at every secret, living or not.
func (n *node) holding(h *apikey.Hasher, p apikey.Parsed) int {
	found := -1
	for i := range n.Secrets {
		if ok, _ := h.Verify(p, n.Secrets[i].Hash); ok {
			found = i
		}
	}
	if len(n.Secrets) == 0 {
		h.Dummy(p)
	}
	return found
}

// reason is what the audit log says of where it was found: printable, bounded.
func (l Leak) reason() string {
	text := "reported as leaked"
	if l.Source != "" {
		text += " by " + l.Source
	}
	if l.URL != "" {
		text += ", found at " + l.URL
	}
	text = strings.ReplaceAll(text, strings.TrimSpace(l.Token), "(the token)") // a URL may hold it
	clean := make([]rune, 0, len(text))
	for _, c := range text {
		if c != unicode.ReplacementChar && unicode.IsPrint(c) && len(clean) < maxReason {
			clean = append(clean, c)
		}
	}
	return string(clean)
}

type reasonKey struct{}

// because is a context under which audit entries have this Reason.
func because(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, reasonKey{}, reason)
}
