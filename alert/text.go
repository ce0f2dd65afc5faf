package alert

import (
	"fmt"
	"strings"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// who names the subject as a sentence's beginning.
func (a *Alert) who() string {
	kind := map[string]string{quota.KindOrg: "Organization", quota.KindAccount: "Service account", quota.KindMember: "Member", quota.KindKey: "Key"}[a.Subject.Kind()]
	if kind == "" {
		return string(a.Subject)
	}
	if a.Name == "" {
		return kind + " " + a.Subject.ID()
	}
	return fmt.Sprintf("%s “%s”", kind, a.Name)
}

// of names the limit and its window.
func (a *Alert) of() string {
	name := "limit"
	if a.Limit != "" && a.Limit != quota.DefaultLimitName {
		name = "limit “" + a.Limit + "”"
	}
	if a.Max != nil {
		name += " of " + a.Max.String() + " credits"
	}
	if !a.End.IsZero() {
		name += ", which resets on " + day(a.End)
	}
	return name
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// spent is what was spent of the limit in all.
func (a *Alert) spent() quota.Credits {
	if s := *a.Used + *a.Overage; s >= *a.Used {
		return s
	}
	return quota.MaxCredits
}

// when is the figure of a time, for a sentence.
func (a *Alert) when() string {
	t, err := time.Parse(time.RFC3339, a.Figures[FigureTime])
	if err != nil {
		return ""
	}
	return day(t)
}

func (a *Alert) days() string {
	if a.Figures[FigureDays] == "1" {
		return "1 day"
	}
	return a.Figures[FigureDays] + " days"
}

func (a *Alert) sentence() string {
	who, f := a.who(), a.Figures
	switch a.Kind {
	case KindThreshold:
		return fmt.Sprintf("%s has spent %s credits, %s or more of its %s.", who, a.spent(), a.Threshold, a.of())
	case KindLeft:
		return fmt.Sprintf("%s has %s credits or fewer left of its %s.", who, strings.TrimPrefix(a.Threshold.String(), "left "), a.of())
	case KindOverage:
		return fmt.Sprintf("%s has spent %s credits more than there was room for in its %s.", who, a.Overage, a.of())
	case KindRunOut:
		return fmt.Sprintf("At this pace %s will have spent its %s, on %s.", lower(who), a.of(), a.when())
	case KindUnusualSpend:
		return fmt.Sprintf("%s spent %s credits in the hour before %s; up to %s is usual.", who, f[FigureSpent], a.when(), f[FigureUsual])
	case KindKeyUnused:
		if at, err := time.Parse(time.RFC3339, f[FigureDisables]); err == nil {
			return fmt.Sprintf("%s was not used for %s, and will be disabled on %s unless it is used.", who, a.days(), day(at))
		}
		if f[FigureTime] == "" {
			return fmt.Sprintf("%s was never used since it was made, %s ago. Disable it if nobody needs it.", who, a.days())
		}
		return fmt.Sprintf("%s was not used for %s, since %s. Disable it if nobody needs it.", who, a.days(), a.when())
	case KindKeyExpiring:
		return fmt.Sprintf("%s expires in less than %s, on %s.", who, a.days(), a.when())
	case KindKeyRotation:
		return fmt.Sprintf("The secret of %s is older than %s. Rotate it.", lower(who), a.days())
	case KindKeyAddress:
		return fmt.Sprintf("%s was used from %s for the first time.", who, f[FigureAddress])
	case KindKeyDisabled:
		return who + " was disabled" + because(f[FigureReason]) + "."
	case KindKeyLeaked:
		if f[FigureDisabled] == "false" {
			return fmt.Sprintf("The token of %s was found where it should not be%s. It opened nothing any more.", lower(who), because(f[FigureReason]))
		}
		return fmt.Sprintf("The token of %s was found where it should not be, and the key was disabled%s.", lower(who), because(f[FigureReason]))
	case KindWebhookGone:
		return fmt.Sprintf("The webhook %s of %s was disabled: %s.", f[FigureAddress], lower(who), f[FigureReason])
	case KindTest:
		return fmt.Sprintf("This is a test alert of %s. Nothing happened.", lower(who))
	}
	return fmt.Sprintf("%s: %s.", who, a.Kind)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func lower(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
