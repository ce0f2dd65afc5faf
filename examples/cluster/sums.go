//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

const (
	actor = saccount.Actor("example:cluster")
	orgID = "acme"
)

// org is the organization that pays: its limit never resets, so that what was
// admitted can be compared with it to the end. It has two accounts of two keys.
type org struct {
	store  *pgstore.Store
	svc    *saccount.Service
	tokens []string
	keys   []saccount.Key
}

func newOrg(ctx context.Context, db *database, limit quota.Credits) (*org, error) {
	st, err := pgstore.Open(ctx, db.DSN, pgstore.Config{Schema: db.Schema})
	if err != nil {
		return nil, err
	}
	svc, err := saccount.New(st, saccount.Config{Prefix: prefix})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	o := &org{store: st, svc: svc}
	if err := o.make(ctx, limit); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (o *org) make(ctx context.Context, limit quota.Credits) error {
	_, err := o.svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: orgID, Name: "Acme", Limits: saccount.Limits{"": saccount.NewLimit(limit, quota.Period{})}})
	if err != nil {
		return err
	}
	for _, name := range []string{"Search", "Reports"} {
		a, err := o.svc.CreateAccount(ctx, actor, orgID, saccount.AccountSpec{Name: name})
		if err != nil {
			return err
		}
		for _, env := range []string{"staging", "production"} {
			token, key, err := o.svc.CreateKey(ctx, actor, orgID, a.ID, saccount.KeySpec{Name: env, Environment: env})
			if err != nil {
				return err
			}
			o.tokens, o.keys = append(o.tokens, token.Reveal()), append(o.keys, key)
		}
	}
	return nil
}

func (o *org) close() error { return errors.Join(o.svc.Close(), o.store.Close()) }

// figures are what the store says.
type figures struct {
	used, held, overage, max quota.Credits // of the organization's limit
	stranded                 quota.Credits // of held: what killed workers may have spent and had not settled
	blocks                   int           // those that are stranded
	levels                   [3]spent      // what was counted for the organization, its accounts and their keys
}

type spent struct {
	credits  quota.Credits
	requests int64
}

var levels = [3]string{"the organization", "its accounts", "their keys"}

func (o *org) figures(ctx context.Context) (f figures, err error) {
	status, err := o.svc.StatusOf(ctx, orgID, saccount.KindOrg, orgID)
	if err != nil {
		return f, err
	}
	if len(status) != 1 {
		return f, fmt.Errorf("the organization has %d limits and should have one", len(status))
	}
	s := status[0]
	f.used, f.held, f.overage, f.max, f.stranded = s.Used, s.Held, s.Overage, s.Max, s.Stranded
	blocks, err := o.svc.StrandedBlocks(ctx, orgID)
	if err != nil {
		return f, err
	}
	f.blocks = len(blocks)
	subjects := [3]map[quota.Subject]bool{{quota.NewSubject(quota.KindOrg, orgID): true}, {}, {}}
	for _, k := range o.keys {
		subjects[1][quota.NewSubject(quota.KindAccount, k.Account)] = true
		subjects[2][quota.NewSubject(quota.KindKey, k.ID)] = true
	}
	for i, set := range subjects {
		for sub := range set {
			t, err := o.svc.UsageTotals(ctx, orgID, []quota.Subject{sub}, time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour))
			if err != nil {
				return f, err
			}
			f.levels[i].credits += t[0].Credits
			f.levels[i].requests += t[0].Requests
		}
	}
	return f, nil
}

// settled are the figures when what is held is stranded and nothing else, or when
// the time for that is over: a killed worker's blocks are known by their end.
func (o *org) settled(ctx context.Context) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(holdTime / 4)
	defer tick.Stop()
	for {
		if f, err = o.figures(ctx); err != nil || f.held == f.stranded {
			return f, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return f, nil
		}
	}
}

// sums puts what the callers were told beside what the store says.
type sums struct {
	answers
	figures
	kills     int
	heldAtEnd quota.Credits // when the load ended
	limit     quota.Credits
}

// admitted is what the store must have counted as requests: those charged, and
// the jobs that were reserved for and cut off.
func (s *sums) admitted() int { return s.requests[charged] + s.requests[cutOff] }

func (s *sums) print(w io.Writer) {
	total := 0
	for _, n := range s.requests {
		total += n
	}
	fmt.Fprintf(w, "\n%d workers were killed. %d requests:\n", s.kills, total)
	row := func(n int, c quota.Credits, what string) { fmt.Fprintf(w, "%12d %12s  %s\n", n, c, what) }
	fmt.Fprintf(w, "%12s %12s\n", "requests", "credits")
	row(s.requests[charged], s.credits[charged], fmt.Sprintf("admitted and charged; %d of them learned by asking again", s.again))
	row(s.requests[refused], s.credits[refused], "refused: the limit stood in the way")
	row(s.requests[cutOff], s.credits[cutOff], "admitted and cut off with their worker: their hold has ended, nothing was charged")
	row(s.requests[unanswered], s.credits[unanswered], "asked for and not answered: charged or not")
	fmt.Fprintf(w, "the store:\n")
	fmt.Fprintf(w, "%12s %12s  used of the limit's %s, overage %s\n", "", s.used, s.max, s.overage)
	fmt.Fprintf(w, "%12s %12s  held now; %s when the load ended\n", "", s.held, s.heldAtEnd)
	if s.blocks > 0 {
		fmt.Fprintf(w, "%12s %12s  of it stranded, in %d blocks of workers that were killed: what they had answered and not settled, and more\n", "", s.stranded, s.blocks)
	}
	for i, l := range s.levels {
		row(int(l.requests), l.credits, "counted for "+levels[i])
	}
}

// check is nil where the sums agree.
func (s *sums) check() error {
	var errs []error
	differ := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	// What was not answered may be in the store and not in the answers; what is
	// stranded may be in the answers and not in the store.
	least, most := s.credits[charged]-s.stranded, s.credits[charged]+s.credits[unanswered]
	if total := s.used + s.overage; total < least || total > most {
		differ("used and overage are %s credits, and the answers say %s to %s", total, least, most)
	}
	if s.open == 0 && s.held != s.stranded {
		differ("%s credits are held, %s of them stranded, and every request with an id was answered", s.held, s.stranded)
	}
	if s.max != s.limit || s.used+s.held > s.max || s.overage != 0 {
		differ("the limit is %s: max %s, used %s, held %s, overage %s", s.limit, s.max, s.used, s.held, s.overage)
	}
	for i, l := range s.levels {
		if l.credits != s.used+s.overage {
			differ("%s: %s credits counted, %s used", levels[i], l.credits, s.used+s.overage)
		}
		if n := int(l.requests); n < s.admitted()-int(s.stranded/callCost) || n > s.admitted()+s.requests[unanswered] {
			differ("%s: %d requests counted, and the answers say %d, with %d not answered and %s credits stranded", levels[i], n, s.admitted(), s.requests[unanswered], s.stranded)
		}
	}
	if s.requests[charged] == 0 {
		differ("nothing was charged")
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the sums do not agree:\n%w", err)
	}
	return nil
}
