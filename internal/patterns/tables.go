package patterns

import (
	"fmt"
	"strings"

	"github.com/keypurse/keypurse/alert"
)

// Mark is the line of a document behind which Tables go.
const Mark = "<!-- make pattern writes what follows -->\n"

// Tables is what the rule made of series, in Markdown: the confusion table of
// all, and a line for each. sum identifies what they were read from.
func Tables(all []Series, sum string) string {
	var b, each strings.Builder
	var total Score
	hours := 0
	for i := range all {
		s := Judge(&all[i])
		total.Add(s)
		hours += len(all[i].Hours)
		fmt.Fprintf(&each, "| %s | %d | %d | %d | %d | %d | %d | %d |\n", all[i].Name, len(all[i].Hours)/24, s.Found, s.Missed, s.Far, s.Early, s.False, s.Quiet)
	}
	fmt.Fprintf(&b, `
%d series, %d hours; SHA-256 of labels and series: %s.

| | alert | no alert |
| --- | ---: | ---: |
| incidents with an hour above %d times the usual | %d | %d |
| other incidents | %d | %d |
| days without an incident | %d | %d |

| series | days | found | missed | above %[4]d times | too early | false alarms | quiet days |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`, len(all), hours, sum, alert.PatternTimes, total.FoundFar, total.Far-total.FoundFar,
		total.Found-total.FoundFar, total.Missed-(total.Far-total.FoundFar), total.False, total.Quiet)
	return b.String() + each.String()
}
