package dashboard

import "github.com/keypurse/keypurse/quota"

// barWidth is the length of a bar in its own units.
const barWidth = 200

// meter is a limit as a bar with the numbers in words.
type meter struct {
	quota.LimitStatus
	UsedWidth, HeldWidth int
	Spent                quota.Credits // used and overage
	Level                string        // "ok", "near" from 80 percent, "full" where nothing remains
}

// Width is the length of the whole bar.
func (m meter) Width() int { return barWidth }

// limitBar measures a limit.
func limitBar(s quota.LimitStatus) meter {
	m := meter{LimitStatus: s}
	m.Spent = s.Used
	if sum, err := s.Used.Add(s.Overage); err == nil {
		m.Spent = sum
	}
	m.UsedWidth = share(m.Spent, s.Max)
	m.HeldWidth = min(share(s.Held, s.Max), barWidth-m.UsedWidth)
	m.Level = "ok"
	switch {
	case s.Remaining == 0:
		m.Level = "full"
	case m.UsedWidth+m.HeldWidth >= barWidth*8/10:
		m.Level = "near"
	}
	return m
}

// share is a part of a whole as a length: at least 1 where there is anything.
func share(part, whole quota.Credits) int {
	if part <= 0 {
		return 0
	}
	if whole <= 0 || part >= whole {
		return barWidth
	}
	return max(1, int(float64(part)/float64(whole)*barWidth)) // for the eye, not for money
}

// periodText says when a limit resets, in words.
func periodText(p quota.Period) string {
	if p.Unit == quota.Never {
		return "never resets"
	}
	text := "resets every " + p.Unit.String()
	if p.Every > 1 {
		text = "resets every " + plural(p.Every, p.Unit.String())
	}
	if p.WeekStart != "" {
		text += ", on " + p.WeekStart
	}
	if !p.Anchor.IsZero() {
		text += ", counted from " + p.Anchor.UTC().Format("2 Jan 2006 15:04 UTC")
	}
	zone := p.Zone
	if zone == "" {
		zone = "UTC"
	}
	return text + " (" + zone + ")"
}

// simple reports whether the choices of a form say a period whole.
func simple(p quota.Period) bool {
	return p.Every <= 1 && p.Anchor.IsZero() && (p.WeekStart == "" || p.WeekStart == "monday")
}
