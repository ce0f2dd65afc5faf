package alert

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Kind is what an alert says. The names are stored and sent: they never change.
type Kind string

// The kinds.
const (
	KindThreshold    Kind = "threshold"        // a share of a limit was spent
	KindLeft         Kind = "left"             // little is left of a limit
	KindOverage      Kind = "overage"          // more was spent than a limit had room for
	KindRunOut       Kind = "run_out"          // a limit will be spent before its window ends
	KindUnusualSpend Kind = "unusual_spend"    // an hour far above the account's own hours
	KindKeyUnused    Kind = "key_unused"       // a key was not used for days
	KindKeyExpiring  Kind = "key_expiring"     // a key expires in days
	KindKeyRotation  Kind = "key_rotation_due" // a key's secret is older than it should be
	KindKeyAddress   Kind = "key_new_address"  // a key was used from an address for the first time
	KindKeyDisabled  Kind = "key_disabled"     // a key was disabled by a rule
	KindKeyLeaked    Kind = "key_leaked"       // a key's token was found where it should not be
	KindWebhookGone  Kind = "webhook_disabled" // a webhook answered that it is gone, or never took anything
	KindTest         Kind = "test"             // somebody asked for it
)

// Kinds are all kinds, in the order above.
func Kinds() []Kind {
	return []Kind{
		KindThreshold, KindLeft, KindOverage, KindRunOut, KindUnusualSpend, KindKeyUnused, KindKeyExpiring, KindKeyRotation,
		KindKeyAddress, KindKeyDisabled, KindKeyLeaked, KindWebhookGone, KindTest,
	}
}

// Alert is what a sink is given. Its JSON form is the body of a webhook's data.
type Alert struct {
	// ID is the same for every sink and every try: whoever has seen it passes
	// over what comes again.
	ID      string        `json:"id"`
	Kind    Kind          `json:"kind"`
	At      time.Time     `json:"at"` // when it happened, UTC
	Org     string        `json:"org"`
	Subject quota.Subject `json:"subject"`
	// Name is the subject's, where it has one.
	Name string `json:"name,omitempty"`
	// Text is a sentence in English for a person to read.
	Text string `json:"text"`

	// What follows is set where the alert is about a limit.
	Limit     string           `json:"limit,omitempty"`
	Start     time.Time        `json:"start,omitzero"` // of the window; zero where it never resets
	End       time.Time        `json:"end,omitzero"`
	Threshold *quota.Threshold `json:"threshold,omitempty"`
	Max       *quota.Credits   `json:"max,omitempty"`
	Used      *quota.Credits   `json:"used,omitempty"`
	Overage   *quota.Credits   `json:"overage,omitempty"`

	// Figures are the rest, by name, as text: see New.
	Figures map[string]string `json:"figures,omitempty"`
}

// The names of figures.
const (
	FigureName     = "name"     // the subject's name
	FigureDays     = "days"     // whole days
	FigureTime     = "time"     // RFC 3339: when a key expires, was last used, a limit is spent
	FigureAddress  = "address"  // an IP address
	FigureSpent    = "spent"    // credits
	FigureUsual    = "usual"    // credits
	FigureReason   = "reason"   // a few words
	FigureDisabled = "disabled" // of a leak: true or false, whether it disabled the key
	FigureDisables = "disables" // RFC 3339: when a key that is not used will be disabled
	FigureSink     = "sink"     // of a test: the one sink that it is for; not sent
)

// New makes an alert to be posted: of a kind, about a subject, once for each
// episode (whatever tells one occurrence from the next: an expiry, a day, an
// address; empty: always). keep is until when the episode is remembered.
// Figures are what the kind's sentence needs, by the Figure names, and whatever
// else a receiver may want to know.
func New(kind Kind, subject quota.Subject, episode string, at, keep time.Time, figures map[string]string) (Post, error) {
	p := Post{Alert: quota.Alert{Kind: string(kind), Subject: subject, At: at.UnixMicro()}, Keep: keep.UnixMicro()}
	if episode != "" {
		p.Alert.ID = hash(string(kind), string(subject), episode)
	}
	if len(figures) > 0 {
		b, err := json.Marshal(figures)
		if err != nil {
			return p, fmt.Errorf("alert: figures of %s: %w", kind, err)
		}
		p.Alert.Data = string(b)
	}
	return p, nil
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, s := range parts {
		h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// id is what receivers know an alert by. The place in the outbox is in it,
// hashed, since a limit that was removed and made anew may pass the same
// threshold of the same window again.
func id(a *quota.Alert) string {
	return "alert_" + hash(a.Org, a.Kind, string(a.Subject), a.Limit, fmt.Sprint(a.Start, a.Threshold, a.At), a.ID, fmt.Sprint(a.Seq))
}

// Read makes the Alert of an entry of the outbox. name is the subject's; where
// it is empty, the one among the figures counts. Figures that cannot be read
// are left out.
func Read(a quota.Alert, name string) Alert {
	out := Alert{
		ID: id(&a), Kind: Kind(a.Kind), At: quota.Time(a.At), Org: a.Org, Subject: a.Subject, Name: name,
		Limit: a.Limit, Start: quota.Time(a.Start), End: quota.Time(a.End),
	}
	if a.Data != "" {
		_ = json.Unmarshal([]byte(a.Data), &out.Figures) // what cannot be read is not shown
	}
	if out.Name == "" {
		out.Name = out.Figures[FigureName]
	}
	delete(out.Figures, FigureName)
	if a.Kind == "" {
		switch t := a.Threshold; {
		case t == quota.ThresholdOverage:
			out.Kind = KindOverage
		case t > 0:
			out.Kind = KindThreshold
		default:
			out.Kind = KindLeft
		}
		out.Threshold = &a.Threshold
	}
	if a.Limit != "" {
		out.Max, out.Used, out.Overage = &a.Max, &a.Used, &a.Overage
	}
	out.Text = out.sentence()
	return out
}

// Rename sets the Name, and the Text that says it.
func (a *Alert) Rename(name string) { a.Name, a.Text = name, ""; a.Text = a.sentence() }
