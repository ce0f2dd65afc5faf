package usage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keypurse/keypurse/quota"
)

// Limited is a limit and how it stands.
type Limited struct {
	Limit  quota.Limit
	Status quota.LimitStatus // now
}

// LinePoint is a limit at one point of a chart.
type LinePoint struct {
	// Reached is the most that a window of the limit had spent at any moment
	// of the point.
	Reached quota.Credits `json:"reached"`
	Max     quota.Credits `json:"max"`
}

// Lines sets what a subject spent beside its limits: for each of them a point
// for each of points, as Read gives them by Day (or another step). One call of
// the store, whatever the number of limits. At most MaxPoints windows and
// points in all.
//
// The line is the limit as it stands: its period and Max, over windows that
// were before it was set or changed too, since what was in force on a past day
// is not among the figures (the audit log has it); raises and top-ups count in
// the window of now alone. A window that began before the first point brings
// what was spent in it. A limit that never resets counts from when it was set,
// so that its line is followed back from what is used now, and is 0 before.
//
// Errors: quota.ErrInvalid and quota.ErrOverflow, wrapped, and the store's.
func Lines(ctx context.Context, store Store, org string, subject quota.Subject, limits []Limited, points []Point, now time.Time) ([][]LinePoint, error) {
	if _, err := checkSubjects(org, []quota.Subject{subject}); err != nil {
		return nil, fmt.Errorf("usage: lines: %w", err)
	}
	if len(points) == 0 || len(limits) == 0 {
		return make([][]LinePoint, len(limits)), nil
	}
	edges := make([]int64, 0, len(points)+1)
	for i := range points {
		edges = append(edges, quota.Micros(points[i].Start))
	}
	last := len(points) - 1
	from, to := edges[0], quota.Micros(points[last].End)
	edges = append(edges, to)
	windows := make([][]int64, len(limits))
	for i := range limits {
		if limits[i].Limit.Period.Unit == quota.Never {
			if at := quota.BucketStart(quota.Micros(now)) + bucketMicros; at > to {
				edges = append(edges, at)
			}
			continue
		}
		for at := from; at < to; {
			start, end, err := windowAt(limits[i].Limit.Period, at)
			if err != nil {
				return nil, fmt.Errorf("usage: lines: %w", err)
			}
			if len(edges)+len(windows[i]) > MaxPoints {
				return nil, fmt.Errorf("usage: lines: more than %d windows: take a shorter range: %w", MaxPoints, quota.ErrInvalid)
			}
			windows[i] = append(windows[i], start)
			at = end
		}
		edges = append(edges, windows[i]...)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	spent := make([]quota.Credits, len(edges))
	r := Range{Org: org, Subjects: []quota.Subject{subject}, From: edges[0], To: edges[len(edges)-1], Edges: edges}
	err := store.Usage(ctx, r, func(row Row) error {
		if row.Start < r.From || row.Start >= r.To || row.Subject != subject {
			return errOutside
		}
		i, exact := slices.BinarySearch(edges, row.Start)
		if !exact {
			i--
		}
		var err error
		spent[i], err = spent[i].Add(row.Credits)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("usage: lines: %w", err)
	}
	out := make([][]LinePoint, len(limits))
	for i := range limits {
		line := make([]LinePoint, len(points))
		if limits[i].Limit.Period.Unit == quota.Never {
			back(line, &limits[i], points, edges, spent)
		} else if err := forth(line, &limits[i], windows[i], points, edges, spent); err != nil {
			return nil, fmt.Errorf("usage: lines: %w", err)
		}
		out[i] = line
	}
	return out, nil
}

// forth adds up window by window. edges[i] to edges[i+1] cost spent[i]; every
// window's start and every point's bounds are among the edges.
func forth(line []LinePoint, l *Limited, windows []int64, points []Point, edges []int64, spent []quota.Credits) error {
	var sum quota.Credits
	w, p := -1, 0
	for i := 0; i+1 < len(edges); i++ {
		if w+1 < len(windows) && edges[i] >= windows[w+1] {
			w++
			sum = 0
		}
		if w < 0 {
			continue
		}
		var err error
		if sum, err = sum.Add(spent[i]); err != nil {
			return err
		}
		for p < len(points) && edges[i] >= quota.Micros(points[p].End) {
			p++
		}
		if p == len(points) {
			break
		}
		if edges[i] < quota.Micros(points[p].Start) {
			continue
		}
		line[p].Reached = max(line[p].Reached, sum)
		most := l.Limit.Max
		if windows[w] == quota.Micros(l.Status.Start) {
			most = l.Status.Max
		}
		line[p].Max = most
	}
	return nil
}

// back follows a limit that never resets back from what is used now.
func back(line []LinePoint, l *Limited, points []Point, edges []int64, spent []quota.Credits) {
	used := satAdd(l.Status.Used, l.Status.Overage)
	i := len(edges) - 2
	for p := len(points) - 1; p >= 0; p-- {
		for ; i >= 0 && edges[i] >= quota.Micros(points[p].End); i-- {
			used = max(0, used-spent[i])
		}
		line[p] = LinePoint{Reached: used, Max: l.Status.Max}
	}
}
