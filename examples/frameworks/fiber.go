package frameworks

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// Fiber is not built on net/http. Its adaptor for middlewares returns from the
// middleware before the handlers run, so that a reservation would be settled
// before the work is done. So this asks the Service itself.
type Fiber struct {
	Service *saccount.Service
	// Most is reserved; what FiberCost says is charged, or Most where it says
	// nothing. With Fixed, Most is charged at once.
	Most  quota.Credits
	Fixed bool
	// TrustedProxies: see middleware.ClientAddr.
	TrustedProxies []netip.Prefix
}

// fiberTTL is how long a reservation lives. One that takes longer work has to
// be renewed, as the middleware for net/http does.
const fiberTTL = 10 * time.Minute

type fiberCost struct{}

// FiberCost says what the request costs.
func FiberCost(c fiber.Ctx, cost quota.Credits) { fiber.Locals(c, fiberCost{}, cost) }

// Handle is the middleware. Handlers find the caller in c.Context().
func (f Fiber) Handle(c fiber.Ctx) error {
	p, err := f.authenticate(c)
	if err != nil {
		return fiberProblem(c, err)
	}
	c.SetContext(saccount.NewContext(c.Context(), p))
	if f.Fixed {
		d, err := f.Service.Charge(c.Context(), p, saccount.Charge{Amount: f.Most})
		if err == nil {
			err = d.Err()
		}
		if err != nil {
			return fiberProblem(c, err)
		}
		return c.Next()
	}
	hold, d, err := f.Service.Reserve(c.Context(), p, saccount.Reserve{Amount: f.Most, TTL: fiberTTL})
	if err == nil {
		err = d.Err()
	}
	if err != nil {
		return fiberProblem(c, err)
	}
	defer func() { // a panic passes by here on its way to fiber's recover middleware
		cost, told := c.Locals(fiberCost{}).(quota.Credits)
		if !told {
			cost = f.Most
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), 5*time.Second)
		defer cancel()
		d, err := hold.Commit(ctx, cost)
		if errors.Is(err, quota.ErrExpired) {
			// The handler ran for longer than the hold lived.
			d, err = f.Service.Charge(ctx, p, saccount.Charge{Amount: cost, ID: "late:" + hold.ID()})
		}
		if err == nil {
			err = d.Err()
		}
		if err != nil {
			slog.ErrorContext(ctx, "a request was served and could not be charged", "caller", p.String(), "credits", cost.String(), "error", err)
		}
	}()
	return c.Next()
}

func (f Fiber) authenticate(c fiber.Ctx) (p saccount.Principal, err error) {
	lines := c.Request().Header.PeekAll(fiber.HeaderAuthorization)
	if len(lines) > 1 {
		return p, middleware.ErrCredentials
	}
	token, ok := middleware.Bearer(strings.TrimSpace(c.Get(fiber.HeaderAuthorization)))
	if !ok {
		return p, middleware.ErrNoCredentials
	}
	r := &http.Request{RemoteAddr: c.RequestCtx().RemoteAddr().String(), Header: http.Header{}}
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		r.Header.Add(fiber.HeaderXForwardedFor, string(line))
	}
	// fasthttp writes anew to the memory of a request when it is over: what
	// may be kept for longer is cloned.
	return f.Service.Authenticate(c.Context(), strings.Clone(token), middleware.ClientAddr(r, f.TrustedProxies))
}

// fiberProblem answers as the middleware does.
func fiberProblem(c fiber.Ctx, err error) error {
	p := middleware.NewProblem(err, time.Now())
	h := http.Header{}
	p.SetHeader(h)
	for k := range h {
		c.Set(k, h.Get(k))
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Status(p.Status).Send(p.Body())
}
