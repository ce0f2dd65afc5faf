package dashboard

import (
	"fmt"
	"strconv"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/usage"
)

// The plane that charts are drawn on, in units of their own: they are scaled to
// the width that there is.
const (
	chartWidth  = 720
	chartHeight = 160
	sparkWidth  = 120
	sparkHeight = 24
	maxParts    = 7 // of a stacked bar: the rest is one part
)

// chart is a row of bars, with the same figures as a table.
type chart struct {
	Title, Unit string
	Bars        []bar
	Parts       []part // what bars are made of, the first at the bottom
	Line        *line
	Highest     string
	Empty       bool
	First, Last string // what stands below the first and the last bar
	Total       string
}

type bar struct {
	X, Width int
	Boxes    []box
	Label    string // the time
	Value    string
	Values   []string // by part
	Refused  int64
}

type box struct {
	X, Y, Width, Height int
	Class               string
}

type part struct{ Name, Class, Total string }

// line is a limit's line across the bars.
type line struct {
	Y    int
	Name string
}

// W and H are the plane.
func (c *chart) W() int { return chartWidth }

// H is its height.
func (c *chart) H() int { return chartHeight }

// measure is what bars show: credits or requests.
type measure struct {
	unit string
	of   func(usage.Counts) int64
	show func(int64) string
}

var (
	byCredits  = measure{"credits", func(c usage.Counts) int64 { return int64(c.Credits) }, func(n int64) string { return quota.Credits(n).String() }}
	byRequests = measure{"requests", func(c usage.Counts) int64 { return c.Requests }, func(n int64) string { return strconv.FormatInt(n, 10) }}
)

// stack is one part of every bar.
type stack struct {
	name   string
	series usage.Series
}

// drawChart draws bars of the whole, made of stacks that are no more than it
// together; what is left of a bar is the part called rest. A limit that is not
// nil is drawn as a line.
func drawChart(title string, m measure, layout string, whole usage.Series, stacks []stack, rest string, limit *quota.Credits, limitName string) *chart {
	c := &chart{Title: title, Unit: m.unit, Total: m.show(m.of(whole.Total))}
	var most int64
	for _, p := range whole.Points {
		most = max(most, m.of(p.Counts))
	}
	c.Empty = most == 0
	top := most
	if limit != nil && m.unit == "credits" && int64(*limit) <= 4*most && int64(*limit) > 0 {
		top = max(top, int64(*limit))
		c.Line = &line{Name: limitName}
	}
	c.Highest = m.show(top)
	height := func(n int64) int {
		if n <= 0 || top == 0 {
			return 0
		}
		return max(1, int(float64(n)/float64(top)*chartHeight)) // for the eye
	}
	if c.Line != nil {
		c.Line.Y = chartHeight - height(int64(*limit))
	}
	for i, s := range stacks {
		c.Parts = append(c.Parts, part{s.name, "part" + strconv.Itoa(i), m.show(m.of(s.series.Total))})
	}
	if rest != "" {
		c.Parts = append(c.Parts, part{Name: rest, Class: "part" + strconv.Itoa(maxParts)})
	}
	n := len(whole.Points)
	left := m.of(whole.Total)
	for i, p := range whole.Points {
		x, end := i*chartWidth/n, (i+1)*chartWidth/n
		b := bar{X: x, Width: max(1, end-x-min(2, (end-x)/3)), Label: p.Start.Format(layout), Value: m.show(m.of(p.Counts)), Refused: p.Refused}
		y, remains := chartHeight, m.of(p.Counts)
		add := func(n int64, class string) {
			h := min(height(n), y)
			if h > 0 {
				y -= h
				b.Boxes = append(b.Boxes, box{b.X, y, b.Width, h, class})
			}
		}
		for j, s := range stacks {
			k := min(m.of(s.series.Points[i].Counts), remains)
			remains -= k
			add(k, c.Parts[j].Class)
			b.Values = append(b.Values, m.show(k))
		}
		switch {
		case rest != "":
			add(remains, c.Parts[len(c.Parts)-1].Class)
			b.Values = append(b.Values, m.show(remains))
		case len(stacks) == 0:
			add(remains, "part0")
		}
		c.Bars = append(c.Bars, b)
	}
	for _, s := range stacks {
		left -= m.of(s.series.Total)
	}
	if rest != "" {
		c.Parts[len(c.Parts)-1].Total = m.show(max(0, left))
	}
	if n > 0 {
		c.First, c.Last = c.Bars[0].Label, c.Bars[n-1].Label
	}
	return c
}

// spark is a small chart without words; the number beside it says them.
type spark struct {
	Path  string // of all bars: a page has many sparks
	Total string
}

// W and H are the plane.
func (s spark) W() int { return sparkWidth }

// H is its height.
func (s spark) H() int { return sparkHeight }

func drawSpark(s usage.Series) spark {
	var most quota.Credits
	for _, p := range s.Points {
		most = max(most, p.Credits)
	}
	var path []byte
	for i, p := range s.Points {
		if p.Credits <= 0 {
			continue
		}
		x, end := i*sparkWidth/len(s.Points), (i+1)*sparkWidth/len(s.Points)
		h := max(1, int(float64(p.Credits)/float64(most)*sparkHeight)) // for the eye
		path = fmt.Appendf(path, "M%d %dv-%dh%dv%dz", x, sparkHeight, h, max(1, end-x-1), h)
	}
	return spark{string(path), s.Total.Credits.String()}
}

// span of a chart that a visitor chooses, by its name in the address.
type chartSpan struct {
	Name, Label string
	step        usage.Step
	layout      string
	from        func(now time.Time) time.Time // now in the zone that days are meant in
}

var chartSpans = []chartSpan{
	{"24h", "24 hours", usage.Hour, "2 Jan 15:04", func(now time.Time) time.Time { return now.Add(-23 * time.Hour).Truncate(time.Hour) }},
	{"7d", "7 days", usage.Hour, "2 Jan 15:04", func(now time.Time) time.Time { return midnight(now, -6) }},
	{"30d", "30 days", usage.Day, "2 Jan", func(now time.Time) time.Time { return midnight(now, -29) }},
	{"90d", "90 days", usage.Day, "2 Jan", func(now time.Time) time.Time { return midnight(now, -89) }},
	{"1y", "1 year", usage.Week, "2 Jan 2006", func(now time.Time) time.Time { return midnight(now, -364) }},
}

// midnight is the beginning of the day so many days from now, as the zone's
// calendar has it: where midnight is missing, the first instant of the day.
func midnight(now time.Time, days int) time.Time {
	y, m, d := now.Date()
	at := time.Date(y, m, d+days, 0, 0, 0, 0, now.Location())
	w, err := (quota.Period{Unit: quota.Day, Zone: now.Location().String()}).WindowAt(at.Add(12 * time.Hour))
	if err != nil {
		return at
	}
	return w.Start
}
