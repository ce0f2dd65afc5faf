package saccount

import (
	"sync/atomic"
	"time"
)

// resync bounds how long a step of the wall clock stays unseen.
const resync = 50 * time.Millisecond

// clock is time.Now at half its price: the wall clock is read now and then,
// and in between the monotonic clock is added to it.
type clock struct{ base atomic.Pointer[time.Time] }

func (c *clock) now() time.Time {
	if b := c.base.Load(); b != nil {
		if d := time.Since(*b); d < resync {
			return b.Add(d)
		}
	}
	t := time.Now()
	c.base.Store(&t)
	return t
}
