package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

const (
	perWord = quota.Credit / 100
	maxBody = 100_000 // bytes: what 500 credits can pay for
)

// handler is the whole service: what costs something is behind a middleware
// that charges, the rest behind one that only asks who is calling. They count
// failed attempts together.
func handler(svc *saccount.Service) (*http.ServeMux, error) {
	throttle, err := middleware.NewThrottle(middleware.ThrottleConfig{})
	if err != nil {
		return nil, err
	}
	paid, err := middleware.New(svc, middleware.Config{Cost: middleware.UpTo(ceiling), Throttle: throttle})
	if err != nil {
		return nil, err
	}
	free, err := middleware.New(svc, middleware.Config{Throttle: throttle})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/words", paid(http.HandlerFunc(words)))
	mux.Handle("GET /v1/me", free(me(svc)))
	return mux, nil
}

// ceiling is the most that a body can cost: a word for every two bytes,
// rounded up. What is refused here has reserved nothing.
func ceiling(r *http.Request) (quota.Credits, error) {
	switch {
	case r.ContentLength < 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") == "":
		return 0, &middleware.Problem{Status: http.StatusLengthRequired, Title: "Length required", Detail: "Send the body with a Content-Length: it says what the request can cost."}
	case r.ContentLength > maxBody:
		return 0, &middleware.Problem{Status: http.StatusRequestEntityTooLarge, Title: "Body too large", Detail: fmt.Sprintf("Send at most %d bytes.", maxBody)}
	}
	return perWord.Mul((r.ContentLength + 1) / 2)
}

// words counts the words of a body as it comes, and commits what they cost
// before it answers.
func words(w http.ResponseWriter, r *http.Request) {
	n, readErr := countWords(r.Body)
	cost, err := perWord.Mul(n)
	if err != nil {
		middleware.WriteProblem(w, r, err)
		return
	}
	if readErr != nil {
		// What was counted was worked for: it is charged, and most likely
		// nobody is there to read the answer.
		if err := middleware.SetCost(r.Context(), cost); err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
		middleware.WriteProblem(w, r, &middleware.Problem{Status: http.StatusBadRequest, Title: "Unreadable body", Detail: "The body ended early."})
		return
	}
	d, err := middleware.Settle(r.Context(), cost)
	if err != nil {
		middleware.WriteProblem(w, r, err)
		return
	}
	left, _ := d.Remaining()
	answer(w, counted{n, cost, left})
}

func countWords(body io.Reader) (n int64, err error) {
	in := bufio.NewReader(body)
	inside := false
	for {
		c, _, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if space := unicode.IsSpace(c); space {
			inside = false
		} else if !inside {
			inside = true
			n++
		}
	}
}

// counted is the answer to a request that was paid for.
type counted struct {
	Words     int64         `json:"words"`
	Credits   quota.Credits `json:"credits"`
	Remaining quota.Credits `json:"remaining"`
}

type limit struct {
	Level     string        `json:"level"`
	Limit     string        `json:"limit"`
	Max       quota.Credits `json:"max"`
	Used      quota.Credits `json:"used"`
	Held      quota.Credits `json:"held"`
	Remaining quota.Credits `json:"remaining"`
	ResetsAt  *time.Time    `json:"resets_at"` // null: never
}

type spent struct {
	Credits  quota.Credits `json:"credits"`
	Requests int64         `json:"requests"`
	Refused  int64         `json:"refused"`
}

// me shows the caller what is its own.
func me(svc *saccount.Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := about(r, svc)
		if err != nil {
			middleware.WriteProblem(w, r, err)
			return
		}
		answer(w, v)
	})
}

func about(r *http.Request, svc *saccount.Service) (any, error) {
	ctx := r.Context()
	caller, _ := saccount.FromContext(ctx)
	account, err := svc.GetAccount(ctx, caller.OrgID(), caller.AccountID())
	if err != nil {
		return nil, err
	}
	key, err := svc.GetKey(ctx, caller.OrgID(), caller.KeyID())
	if err != nil {
		return nil, err
	}
	status, err := svc.Status(ctx, caller)
	if err != nil {
		return nil, err
	}
	limits := make([]limit, 0, len(status))
	for _, s := range status {
		l := limit{Level: s.Subject.Kind(), Limit: s.Limit, Max: s.Max, Used: s.Used, Held: s.Held, Remaining: s.Remaining}
		if !s.ResetAt.IsZero() {
			l.ResetsAt = &s.ResetAt
		}
		limits = append(limits, l)
	}
	now := time.Now()
	used := map[string]spent{}
	for name, back := range map[string]time.Duration{"last_24_hours": 24 * time.Hour, "last_30_days": 30 * 24 * time.Hour} {
		var total []usage.Total
		total, err = svc.UsageTotals(ctx, caller.OrgID(), []quota.Subject{caller.Subject()}, now.Add(-back), now)
		if err != nil {
			return nil, err
		}
		used[name] = spent{total[0].Credits, total[0].Requests, total[0].Refused}
	}
	return map[string]any{
		"account": map[string]string{"id": account.ID, "name": account.Name},
		"key":     map[string]string{"id": key.ID, "name": key.Name, "masked": key.Masked},
		"limits":  limits,
		"usage":   used,
	}, nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the caller has gone
	}
}
