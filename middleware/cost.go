package middleware

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/keypurse/keypurse/quota"
)

// Cost says what a request costs: Fixed, Computed or UpTo made it. The zero
// Cost is nothing, and counts no request. Immutable.
type Cost struct {
	kind  costKind
	fixed quota.Credits
	of    func(*http.Request) (quota.Credits, error)
	err   error
}

type costKind uint8

const (
	costNone costKind = iota
	costFixed
	costComputed
	costUpTo
)

// Fixed is the same cost for every request. Zero charges nothing and counts
// the request. New refuses a negative one.
func Fixed(c quota.Credits) Cost {
	if c < 0 {
		return Cost{err: fmt.Errorf("%s credits: a cost is never negative", c)}
	}
	return Cost{kind: costFixed, fixed: c}
}

// Computed is a cost that shows in the request. fn is called once for each
// request whose caller is known, finds the caller in the request's context,
// may be called by any number of goroutines, and must leave the body unread.
// Its error is the answer where it is a *Problem, and else 500.
func Computed(fn func(*http.Request) (quota.Credits, error)) Cost { return fromFunc(costComputed, fn) }

// UpTo is a cost that is not known before the work is done. What ceiling says
// is reserved, the most that the request may cost; what the handler then tells
// with SetCost, AddCost or Settle is what it did cost. Where it tells more
// than was reserved, the rest is used where there is room and recorded as
// overage where there is none. ceiling is called as Computed's function is.
func UpTo(ceiling func(*http.Request) (quota.Credits, error)) Cost {
	return fromFunc(costUpTo, ceiling)
}

func fromFunc(kind costKind, fn func(*http.Request) (quota.Credits, error)) Cost {
	if fn == nil {
		return Cost{err: errors.New("the function is nil")}
	}
	return Cost{kind: kind, of: fn}
}
