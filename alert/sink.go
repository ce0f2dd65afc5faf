package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Sink takes alerts. Send is called by several goroutines at once, also for one
// alert again where it failed, where the process ended before that was noted,
// or, rarely, without a reason: whoever must not act twice goes by Alert.ID. It
// returns when the alert is safely where it belongs, or an error; a Failure
// says more. It must end when its context does.
type Sink interface {
	Send(ctx context.Context, a Alert) error
}

// Func is a function as a Sink.
type Func func(ctx context.Context, a Alert) error

// Send calls f.
func (f Func) Send(ctx context.Context, a Alert) error { return f(ctx, a) }

// Log is a Sink that writes a line of level Warn for each alert. A nil logger
// is slog.Default.
func Log(l *slog.Logger) Sink {
	return Func(func(ctx context.Context, a Alert) error {
		to := l
		if to == nil {
			to = slog.Default()
		}
		args := []slog.Attr{
			slog.String("id", a.ID), slog.String("kind", string(a.Kind)), slog.String("org", a.Org), slog.String("subject", string(a.Subject)), slog.Time("at", a.At),
		}
		if a.Limit != "" {
			args = append(args, slog.String("limit", a.Limit), slog.String("max", a.Max.String()), slog.String("used", a.Used.String()), slog.String("overage", a.Overage.String()))
		}
		if a.Threshold != nil {
			args = append(args, slog.String("threshold", a.Threshold.String()))
		}
		for k, v := range a.Figures {
			args = append(args, slog.String(k, v))
		}
		to.LogAttrs(ctx, slog.LevelWarn, a.Text, args...)
		return nil
	})
}

// Failure is an error of a Sink that says when to try again.
type Failure struct {
	Err error
	// RetryAfter is how long the receiver wants to be left alone, at most
	// MaxRetryAfter.
	RetryAfter time.Duration
	// Gone: the receiver is there no more. The alert is not tried again, and
	// the receiver is disabled.
	Gone bool
}

// MaxRetryAfter bounds what a receiver may ask for.
const MaxRetryAfter = 24 * time.Hour

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Filter says which alerts a sink gets. Its zero value lets all through; of a
// list that is not empty, one must fit. A test alert passes always.
type Filter struct {
	Kinds    []Kind          `json:"kinds,omitempty"`
	Subjects []quota.Subject `json:"subjects,omitempty"` // "account:sa1", or "key:" for every key
	Limits   []string        `json:"limits,omitempty"`   // names; alerts that are about no limit pass
}

// maxFilter bounds each list of a Filter.
const maxFilter = 64

// Validate refuses kinds that there are not, and lists of more than 64. Errors
// wrap quota.ErrInvalid.
func (f *Filter) Validate() error {
	if len(f.Kinds) > maxFilter || len(f.Subjects) > maxFilter || len(f.Limits) > maxFilter {
		return fmt.Errorf("%w filter: at most %d kinds, subjects and limits", quota.ErrInvalid, maxFilter)
	}
	for _, k := range f.Kinds {
		if !slices.Contains(Kinds(), k) {
			return fmt.Errorf("%w filter: there is no kind %q of alert", quota.ErrInvalid, k)
		}
	}
	for _, s := range f.Subjects {
		switch s.Kind() {
		case quota.KindOrg, quota.KindAccount, quota.KindMember, quota.KindKey:
		default:
			return fmt.Errorf("%w filter: subject %q; give a kind and an id, as %q, or a kind and a colon", quota.ErrInvalid, s, "account:sa1")
		}
	}
	return nil
}

// Match reports whether the alert passes.
func (f *Filter) Match(a *Alert) bool {
	if a.Kind == KindTest {
		return true
	}
	fits := func(s quota.Subject) bool { return s == a.Subject || s.ID() == "" && s.Kind() == a.Subject.Kind() }
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, a.Kind)) && (len(f.Subjects) == 0 || slices.ContainsFunc(f.Subjects, fits)) &&
		(len(f.Limits) == 0 || a.Limit == "" || slices.Contains(f.Limits, a.Limit))
}

// Route is a Sink under a name, with a filter.
type Route struct {
	// Name is 1 to 255 bytes and stays the same: what was to be sent to a name
	// that is not there any more becomes a dead letter.
	Name   string
	Sink   Sink
	Filter Filter
}

// errNoSink is why a delivery to a name that is gone is a dead letter.
var errNoSink = errors.New("there is no such sink any more, or it is disabled")
