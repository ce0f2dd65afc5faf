package usage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/keypurse/keypurse/quota"
)

// Counts are what was spent and asked for. The zero Counts: nothing.
type Counts struct {
	Credits  quota.Credits `json:"credits"`  // spent, overage included
	Requests int64         `json:"requests"` // admitted
	Refused  int64         `json:"refused"`  // refused, for all reasons
	Reasons  Refusals      `json:"reasons,omitempty"`
}

// Refusals are refused requests by reason, each once, sorted by reason. As JSON
// they are an object: {"limit":3,"rate":1}.
type Refusals []Refusal

// Refusal is how many requests were refused for a reason.
type Refusal struct {
	Reason   quota.Reason
	Requests int64
}

// Of is how many were refused for the reason.
func (r Refusals) Of(reason quota.Reason) int64 {
	if i, ok := r.find(reason); ok {
		return r[i].Requests
	}
	return 0
}

func (r Refusals) find(reason quota.Reason) (int, bool) {
	return slices.BinarySearchFunc(r, reason, func(e Refusal, t quota.Reason) int {
		switch {
		case e.Reason < t:
			return -1
		case e.Reason > t:
			return 1
		}
		return 0
	})
}

// MarshalJSON writes an object with a member for each reason.
func (r Refusals) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(string(e.Reason))
		if err != nil {
			return nil, fmt.Errorf("usage: write reason: %w", err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.WriteString(strconv.FormatInt(e.Requests, 10))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON writes. On an error, which wraps
// quota.ErrInvalid, r is unchanged.
func (r *Refusals) UnmarshalJSON(data []byte) error {
	var m map[quota.Reason]int64
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("usage: read reasons: want an object of whole numbers: %w", quota.ErrInvalid)
	}
	all := make(Refusals, 0, len(m))
	for reason, n := range m {
		i, _ := all.find(reason)
		all = slices.Insert(all, i, Refusal{reason, n})
	}
	*r = all
	return nil
}

// add counts a row in. room is how many counts by reason may still be made; it
// is lowered by one where one is. On an error c is of no more use.
func (c *Counts) add(row *Row, room *int) error {
	var err error
	if c.Credits, err = c.Credits.Add(row.Credits); err != nil {
		return err
	}
	if row.Reason == "" {
		return addTo(&c.Requests, row.Requests)
	}
	if err = addTo(&c.Refused, row.Requests); err != nil {
		return err
	}
	i, ok := c.Reasons.find(row.Reason)
	if !ok {
		if len(c.Reasons) == MaxReasons {
			return fmt.Errorf("more than %d reasons of refusal: take a shorter range, and keep what varies by request out of reasons: %w", MaxReasons, quota.ErrInvalid)
		}
		if *room == 0 {
			return fmt.Errorf("more than %d counts by point and reason: take fewer subjects, a shorter range or a wider step: %w", MaxRefusals, quota.ErrInvalid)
		}
		*room--
		c.Reasons = slices.Insert(c.Reasons, i, Refusal{Reason: row.Reason})
	}
	return addTo(&c.Reasons[i].Requests, row.Requests)
}

// addTo is *sum += n, checked.
func addTo(sum *int64, n int64) error {
	if n > 0 && *sum > math.MaxInt64-n || n < 0 && *sum < math.MinInt64-n {
		return fmt.Errorf("requests beyond %d: %w", int64(math.MaxInt64), quota.ErrOverflow)
	}
	*sum += n
	return nil
}
