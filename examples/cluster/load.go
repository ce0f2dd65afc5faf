//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/keypurse/keypurse/middleware"
	"github.com/keypurse/keypurse/quota"
)

// What a request costs, and what a job reserves.
const (
	callCost = quota.Credit
	jobMost  = 10 * quota.Credit
	jobCost  = 4 * quota.Credit
)

// tries is how often a request is sent before it is left for the end.
const tries = 3

// settleTime bounds how long the end asks for answers.
const settleTime = 30 * time.Second

// outcome is what became of a request.
type outcome int

const (
	unanswered outcome = iota // it may have been charged
	charged
	refused // a limit stood in the way
	cutOff  // a job whose worker died: its hold has ended and nothing was charged
	outcomes
)

// request is one unit of work. Its id makes it safe to send again; without one it
// is sent once.
type request struct {
	id    string
	token string
	job   bool
	again bool // it was sent more than once
}

func (r *request) cost() quota.Credits {
	if r.job {
		return jobCost
	}
	return callCost
}

// answers is what the callers were told.
type answers struct {
	requests [outcomes]int
	credits  [outcomes]quota.Credits
	again    int // charged, learned by asking again
	open     int // of those unanswered, with an id
}

// load is the callers.
type load struct {
	workers *workers
	tokens  []string
	callers int
	ids     bool // calls carry ids; jobs always do
	client  *http.Client

	mu   sync.Mutex
	told answers
	open []*request // not answered yet
	err  error
}

func newLoad(ws *workers, tokens []string, callers int, ids bool) *load {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxIdleConnsPerHost = callers
	return &load{workers: ws, tokens: tokens, callers: callers, ids: ids, client: &http.Client{Transport: t, Timeout: 15 * time.Second}}
}

// run lets the callers work until during is over. What they have begun then, they
// finish.
func (l *load) run(during, firm context.Context) {
	var wg sync.WaitGroup
	for c := range l.callers {
		wg.Go(func() {
			for i := c; during.Err() == nil && l.failed() == nil; i++ {
				r := &request{token: l.tokens[i%len(l.tokens)], job: i%4 == 0}
				if r.job || l.ids {
					r.id = rand.Text()
				}
				l.do(firm, r, i)
			}
		})
	}
	wg.Wait()
}

// do sends a request, to another worker where one does not answer, and notes what
// became of it.
func (l *load) do(ctx context.Context, r *request, at int) {
	for try := range tries {
		end, err := l.send(ctx, r, at+try)
		switch {
		case errors.Is(err, errNotSent):
			continue
		case err != nil:
			l.fail(err)
			return
		case end != unanswered || r.id == "":
			l.note(r, end)
			return
		}
		r.again = true
	}
	if r.id == "" {
		return // no worker was asked
	}
	l.mu.Lock()
	l.open = append(l.open, r)
	l.mu.Unlock()
}

// settle asks again for what was not answered: what a killed worker had on hold
// is in the way of an answer until it ends.
func (l *load) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for l.failed() == nil {
		l.mu.Lock()
		open := l.open
		l.open = nil
		l.mu.Unlock()
		if len(open) == 0 {
			return
		}
		for i, r := range open {
			l.do(ctx, r, i)
		}
		pause := time.NewTimer(holdTime / 4)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// errNotSent: the worker was gone before it was asked.
var errNotSent = errors.New("not sent")

// send sends a request once. An error is errNotSent, or an answer that nobody
// should get.
func (l *load) send(ctx context.Context, r *request, at int) (outcome, error) {
	base, err := l.workers.pick(ctx, at)
	if err != nil {
		return unanswered, err
	}
	query, path := url.Values{"cost": {r.cost().String()}}, "/call?"
	if r.job {
		query.Set("most", jobMost.String())
		path = "/job?"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path+query.Encode(), nil)
	if err != nil {
		return unanswered, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if r.id != "" {
		req.Header.Set("Idempotency-Key", r.id)
	}
	res, err := l.client.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return unanswered, errNotSent
	}
	if err != nil {
		return unanswered, nil // the worker is gone
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return unanswered, nil
	}
	switch res.StatusCode {
	case http.StatusOK:
		var v reply
		if err := json.Unmarshal(body, &v); err != nil {
			return unanswered, fmt.Errorf("an answer of %q: %w", body, err)
		}
		r.again = r.again || v.Replayed
		return charged, nil
	case http.StatusPaymentRequired, http.StatusTooManyRequests:
		return refused, nil
	case http.StatusServiceUnavailable:
		return unanswered, nil
	case http.StatusConflict:
		if res.Header.Get("Retry-After") != "" {
			return unanswered, nil // what its first worker had reserved is still on hold
		}
		var p middleware.Problem
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&p); err == nil && p.Code == middleware.CodeIDInUse {
			return cutOff, nil
		}
	}
	return unanswered, fmt.Errorf("an answer that was not expected: %s %s", res.Status, body)
}

func (l *load) note(r *request, end outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.requests[end]++
	l.told.credits[end] += r.cost()
	if end == charged && r.again {
		l.told.again++
	}
}

// answers is what was told, with what is left open as unanswered.
func (l *load) answers() answers {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.told
	for _, r := range l.open {
		a.requests[unanswered]++
		a.credits[unanswered] += r.cost()
		a.open++
	}
	return a
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *load) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
