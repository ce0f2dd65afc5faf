package saccount

import (
	"slices"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/alert"
)

// Rules are what Watch looks for besides thresholds, which need no looking: they
// are alerted by the charge that passes them. The zero value alerts of keys that
// expire, and of nothing else.
type Rules struct {
	// Expiring are how many days before its end a key is alerted of, once each:
	// 1 to 365. Nil is 7 and 1; empty and not nil is none.
	Expiring []int
	// Unused is after how many days without a use (or since it was made) a key is
	// alerted of, once, until it is used again: 1 to 3650. Zero is never. Once the
	// organization's KeyPolicy warns that it will disable the key, that warning
	// alone speaks: it says what comes, and when.
	Unused int
	// Rotation is how old, in days, the newest secret of a key may be before it
	// is alerted of, once a secret: 1 to 3650. Zero is never.
	Rotation int
	// NewAddress alerts where a key is used from an address (IPv4, or the first
	// 64 bits of IPv6) that it was not used from within 400 days. A key's first
	// address is no news. The address is looked at once a minute a key; of one
	// key a process alerts once a day.
	NewAddress bool
	// RunOut alerts of a limit that will be spent before its window ends, both at
	// the pace of the last 24 hours and at that of the last 7 days, once a window.
	// Windows of less than two days, and limits that never reset and last for
	// more than a week, are not looked at.
	RunOut bool
	// Unusual alerts of a service account that spent far more in an hour than in
	// its own hours before, at most once a day: see alert.Unusual.
	Unusual bool
	// Every is how often one process of many looks: a minute to a day. Zero is an
	// hour.
	Every time.Duration
}

const maxRuleDays = 3650

func (r Rules) check() (Rules, error) {
	if r.Expiring == nil {
		r.Expiring = []int{7, 1}
	}
	r.Expiring = slices.Clone(r.Expiring)
	slices.Sort(r.Expiring)
	if r.Every == 0 {
		r.Every = time.Hour
	}
	switch {
	case len(r.Expiring) > 8 || len(r.Expiring) > 0 && (r.Expiring[0] < 1 || r.Expiring[len(r.Expiring)-1] > 365):
		return r, invalidf("Rules.Expiring %v: give up to 8 of 1 to 365 days", r.Expiring)
	case r.Unused < 0 || r.Unused > maxRuleDays:
		return r, invalidf("Rules.Unused %d: give 0 for never, or 1 to %d days", r.Unused, maxRuleDays)
	case r.Rotation < 0 || r.Rotation > maxRuleDays:
		return r, invalidf("Rules.Rotation %d: give 0 for never, or 1 to %d days", r.Rotation, maxRuleDays)
	case r.Every < time.Minute || r.Every > 24*time.Hour:
		return r, invalidf("Rules.Every %v: give 1m to 24h", r.Every)
	}
	return r, nil
}

const ruleDay = 24 * time.Hour

// ofKey are the alerts that the rules have for a living key, under its
// organization's policy, at instant now.
func (r *Rules) ofKey(n *node, p KeyPolicy, now time.Time) (out []alert.Post, err error) {
	post := func(kind alert.Kind, episode string, keep time.Time, quiet bool, days int, at time.Time) {
		figures := map[string]string{alert.FigureDays: strconv.Itoa(days), "account": n.Parent}
		if !at.IsZero() {
			figures[alert.FigureTime] = at.UTC().Format(time.RFC3339)
		}
		p, e := alert.New(kind, n.subject(), episode, now, keep, figures)
		if e != nil {
			err = e
		}
		p.Quiet = quiet
		out = append(out, p)
	}
	if !n.Expires.IsZero() && now.Before(n.Expires) {
		told := false
		for _, d := range r.Expiring { // the nearest first: what it says, those further off need not
			if n.Expires.Sub(now) <= time.Duration(d)*ruleDay {
				post(alert.KindKeyExpiring, n.Expires.Format(time.RFC3339Nano)+" "+strconv.Itoa(d), n.Expires.Add(ruleDay), told, d, n.Expires)
				told = true
			}
		}
	}
	if r.Unused > 0 && !p.speaks(n, now) {
		since := n.Created
		if n.Use.At.After(since) {
			since = n.Use.At
		}
		if age := now.Sub(since); age >= time.Duration(r.Unused)*ruleDay {
			post(alert.KindKeyUnused, since.Format(time.RFC3339Nano), now.Add(episodeKept), false, int(age/ruleDay), n.Use.At)
		}
	}
	if r.Rotation > 0 && len(n.Secrets) > 0 {
		made := n.Secrets[len(n.Secrets)-1].Created
		if now.Sub(made) >= time.Duration(r.Rotation)*ruleDay {
			post(alert.KindKeyRotation, made.Format(time.RFC3339Nano), now.Add(episodeKept), false, r.Rotation, made)
		}
	}
	return out, err
}
