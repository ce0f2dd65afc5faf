package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
)

// LeaseConfig says what is simulated of processes that lease: see Leases.
type LeaseConfig struct {
	Seed      uint64
	For       time.Duration // how long they charge
	Processes int           // 0 is 4
	Workers   int           // callers in each; 0 is 4
	Skew      time.Duration // clocks differ by up to this, either way
	Crashes   bool          // processes die, without a word
	Store     string        // as Config.Store
	Dir, DSN  string
}

// LeaseReport is what was done.
type LeaseReport struct {
	Charged, Refused, Crashes, Restarts, Edits int
	Acknowledged                               quota.Credits // by all processes
	Settled                                    quota.Credits // of it, counted in the end
	Stranded                                   quota.Credits // held in the end for processes that died
	Blocks                                     int           // ever stranded
}

// Leases lets several Services with leases charge one organization on one
// store, each by a clock that is wrong in its own way, while some of them die,
// start anew, edit limits and revoke a key. It checks that no limit ever
// admits more than its Max, that what was acknowledged was charged but for what
// the dead had not settled, that the sums of key, account and organization
// agree in every bucket, that a revoked key is charged no longer than the
// stated bound, and that in the end all of a limit can be spent but what is
// stranded. Within testing/synctest it takes no time.
func Leases(ctx context.Context, cfg LeaseConfig) (r LeaseReport, err error) {
	if cfg.Processes == 0 {
		cfg.Processes = 4
	}
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Store == "" {
		cfg.Store = "memory"
	}
	w := &leaseWorld{
		ctx: ctx, cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 7)), began: time.Now(),
		start: time.Date(2027, 3, 9, 11, 50, 0, 0, time.UTC), acked: map[window]quota.Credits{}, max: map[quota.Subject]quota.Credits{}, ever: map[string]quota.Block{},
		tokens: map[string]string{}, account: map[string]string{},
	}
	back, err := newBackend(Config{Store: cfg.Store, Seed: cfg.Seed, Dir: cfg.Dir, DSN: cfg.DSN}, 1, false, nil)
	if err != nil {
		return r, err
	}
	defer back.remove()
	w.back = back
	if w.store, err = back.open(); err != nil {
		return r, err
	}
	closed := back.close
	err = errors.Join(w.run(), closed())
	r = w.report
	return r, err
}

// leaseOrg is the one organization.
const leaseOrg = "acme"

// payer is a key or a member.
type payer struct {
	kind saccount.Kind
	id   string
}

type window struct {
	subject quota.Subject
	start   int64
}

// leaseWorld is the store with its processes.
type leaseWorld struct {
	ctx   context.Context
	cfg   LeaseConfig
	store store.Store
	back  *backend
	rng   *rand.Rand // of the one goroutine that does things to processes
	began time.Time
	start time.Time // what the clock showed when it began
	admin *process

	keys    []payer // six keys of two accounts, then two members
	tokens  map[string]string
	account map[string]string
	max     map[quota.Subject]quota.Credits
	revoked struct {
		sync.Mutex
		key   string // empty: none
		by    *process
		since time.Time
	}

	mu     sync.Mutex
	procs  []*process
	acked  map[window]quota.Credits
	total  quota.Credits
	maybe  quota.Credits // what may have been charged and was not acknowledged
	bad    error
	ever   map[string]quota.Block // that were stranded at some time
	report LeaseReport
}

// process is a Service that can die.
type process struct {
	*saccount.Service
	w    *leaseWorld
	skew time.Duration
	dead atomic.Bool
	wg   sync.WaitGroup
	quit chan struct{}
	done func() error // closes its store
}

// end closes the Service and what belongs to it.
func (p *process) end() error {
	err := p.Close()
	if p.done != nil {
		err = errors.Join(err, p.done())
	}
	return err
}

// cut is the store as a process sees it: once the process is dead, its
// questions go nowhere and their answers do not come.
type cut struct {
	store.Store
	p *process
}

var errDead = errors.New("this process is dead")

func (c *cut) Apply(ctx context.Context, ops []*quota.Op) error {
	if c.p.dead.Load() {
		return errDead
	}
	err := c.Store.Apply(ctx, ops)
	if c.p.dead.Load() {
		return errDead
	}
	return err
}

func (c *cut) Lookup(ctx context.Context, org string, kind saccount.Kind, id string) (saccount.Lineage, error) {
	if c.p.dead.Load() {
		return saccount.Lineage{}, errDead
	}
	return c.Store.Lookup(ctx, org, kind, id)
}

// direct is cut for a store whose Apply waits for nothing.
type direct struct{ cut }

// Desk is none: what is decided at one passes Apply over.
func (*direct) Desk(quota.Store, string) *quota.Desk { return nil }

func (w *leaseWorld) clock(skew time.Duration) time.Time {
	return w.start.Add(time.Since(w.began) + skew)
}

func (w *leaseWorld) open(leases bool) (*process, error) {
	p := &process{w: w, quit: make(chan struct{})}
	if w.cfg.Skew > 0 && leases {
		p.skew = time.Duration(w.rng.Int64N(2*int64(w.cfg.Skew))) - w.cfg.Skew
	}
	data := w.store
	if w.cfg.Store == "postgres" && leases { // a process has a store of its own
		var err error
		if data, err = w.back.open(); err != nil {
			return nil, err
		}
		p.done = w.back.close
	}
	var s store.Store = &cut{data, p}
	if w.cfg.Store == "memory" && w.rng.IntN(2) == 0 {
		s = &direct{cut{data, p}}
	}
	var err error
	p.Service, err = saccount.New(s, saccount.Config{Prefix: "sim", Leases: leases, Now: func() time.Time { return w.clock(p.skew) }})
	return p, err
}

func (w *leaseWorld) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad == nil {
		w.bad = fmt.Errorf("sim: leases: seed %d on %s after %v: "+format, append([]any{w.cfg.Seed, w.cfg.Store, time.Since(w.began)}, args...)...)
	}
}

func (w *leaseWorld) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bad
}

// populate makes the organization: limits of many shapes, that are reached.
func (w *leaseWorld) populate() error {
	by := saccount.Actor("sim")
	limit := func(s quota.Subject, most quota.Credits, unit quota.Unit) saccount.Limits {
		w.max[s] = most
		return saccount.Limits{"": saccount.NewLimit(most, quota.Period{Unit: unit})}
	}
	// Of a second: about what all workers ask for is 200,000.
	second := quota.Credits(w.cfg.For/time.Second) * quota.Credits(w.cfg.Processes*w.cfg.Workers) / 16
	if _, err := w.admin.CreateOrg(w.ctx, by, saccount.OrgSpec{ID: leaseOrg, Limits: limit("org:acme", 150_000*second, quota.Never)}); err != nil {
		return err
	}
	for i, unit := range []quota.Unit{quota.Hour, quota.Never} {
		spec := saccount.AccountSpec{Name: fmt.Sprint("account ", i)}
		a, err := w.admin.CreateAccount(w.ctx, by, leaseOrg, spec)
		if err != nil {
			return err
		}
		if unit != quota.Never {
			if _, err := w.admin.UpdateAccount(w.ctx, by, leaseOrg, a.ID, saccount.Update{Limits: limit(quota.NewSubject(quota.KindAccount, a.ID), 60_000*second, unit)}); err != nil {
				return err
			}
		}
		for j := range 3 {
			token, k, err := w.admin.CreateKey(w.ctx, by, leaseOrg, a.ID, saccount.KeySpec{Name: fmt.Sprint("key ", j)})
			if err != nil {
				return err
			}
			unit := []quota.Unit{quota.Day, quota.Never, quota.Hour}[j]
			if j > 0 || i > 0 {
				l := limit(quota.NewSubject(quota.KindKey, k.ID), quota.Credits(1+j)*11_000*second, unit)
				if _, err := w.admin.UpdateKey(w.ctx, by, leaseOrg, k.ID, saccount.Update{Limits: l}); err != nil {
					return err
				}
			}
			w.tokens[k.ID], w.account[k.ID] = token.Reveal(), a.ID
			w.keys = append(w.keys, payer{kind: saccount.KindKey, id: k.ID})
		}
	}
	for j := range 2 {
		id := fmt.Sprint("member", j)
		spec := saccount.MemberSpec{ID: id}
		if j == 0 {
			spec.Limits = limit(quota.NewSubject(quota.KindMember, id), 20_000*second, quota.Hour)
		}
		if _, err := w.admin.CreateMember(w.ctx, by, leaseOrg, spec); err != nil {
			return err
		}
		w.keys = append(w.keys, payer{kind: saccount.KindMember, id: id})
	}
	return nil
}

func (w *leaseWorld) run() (err error) {
	if w.admin, err = w.open(false); err != nil {
		return err
	}
	if err := w.populate(); err != nil {
		return err
	}
	for range w.cfg.Processes {
		if err := w.launch(); err != nil {
			return err
		}
	}
	until := w.began.Add(w.cfg.For)
	for time.Now().Before(until) && w.ctx.Err() == nil && w.failed() == nil {
		w.disturb()
		w.look()
		w.pause(time.Duration(w.rng.Int64N(int64(min(time.Second, w.cfg.For/20)))))
	}
	for _, p := range w.procs {
		p.halt()
	}
	w.pause(4*time.Second + w.cfg.Skew) // idle blocks are given back, the dead's are over, reservations too
	w.look()
	if w.failed() == nil {
		w.spendOut()
	}
	for _, p := range append(w.procs, w.admin) {
		if err := p.end(); err != nil {
			w.fail("close a living process: %v", err)
		}
	}
	w.procs = nil
	w.pause(4*time.Second + w.cfg.Skew)
	w.verify()
	return w.failed()
}

func (w *leaseWorld) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.ctx.Done():
	}
}

// launch starts a process with its workers.
func (w *leaseWorld) launch() error {
	p, err := w.open(true)
	if err != nil {
		return err
	}
	w.procs = append(w.procs, p)
	for range w.cfg.Workers {
		rng := rand.New(rand.NewPCG(w.cfg.Seed, w.rng.Uint64()))
		p.wg.Go(func() { p.work(rng) })
	}
	return nil
}

// halt ends a process's workers.
func (p *process) halt() {
	close(p.quit)
	p.wg.Wait()
}

// disturb does one thing to a process or a record.
func (w *leaseWorld) disturb() {
	by := saccount.Actor("sim")
	i := w.rng.IntN(len(w.procs))
	p := w.procs[i]
	replace := func() {
		w.procs = slices.Delete(w.procs, i, i+1)
		if err := w.launch(); err != nil {
			w.fail("start a process: %v", err)
		}
	}
	switch n := w.rng.IntN(12); {
	case n == 0 && w.cfg.Crashes:
		p.dead.Store(true)
		p.halt()
		_ = p.end() // only to end what still runs: nothing of it reaches the store
		w.report.Crashes++
		replace()
	case n == 1:
		p.halt()
		if err := p.end(); err != nil {
			w.fail("close a living process: %v", err)
		}
		w.report.Restarts++
		replace()
	case n < 4: // a limit is raised
		w.report.Edits++
		most := w.max["org:acme"] + 1
		if _, err := p.UpdateOrg(w.ctx, by, leaseOrg, saccount.Update{Limits: saccount.Limits{"": {Max: &most}}}); err != nil {
			w.fail("raise a limit: %v", err)
		}
		w.max["org:acme"] = most
	case n == 4:
		w.revoke(p, by)
	}
}

// revoke disables a key for a while, by one of the processes.
func (w *leaseWorld) revoke(p *process, by saccount.Actor) {
	key := w.keys[w.rng.IntN(6)].id
	if err := p.DisableKey(w.ctx, by, leaseOrg, key); err != nil {
		w.fail("disable a key: %v", err)
		return
	}
	w.revoked.Lock()
	w.revoked.key, w.revoked.by, w.revoked.since = key, p, time.Now()
	w.revoked.Unlock()
	w.pause(quota.LeaseBound + time.Second)
	w.revoked.Lock()
	w.revoked.key = ""
	w.revoked.Unlock()
	if err := w.admin.EnableKey(w.ctx, by, leaseOrg, key); err != nil {
		w.fail("enable a key: %v", err)
	}
}

// look checks what stands, as another process sees it.
func (w *leaseWorld) look() {
	for s, most := range w.max {
		kind := map[string]saccount.Kind{quota.KindOrg: saccount.KindOrg, quota.KindAccount: saccount.KindAccount, quota.KindKey: saccount.KindKey, quota.KindMember: saccount.KindMember}[s.Kind()]
		st, err := w.admin.StatusOf(w.ctx, leaseOrg, kind, s.ID())
		if err != nil {
			w.fail("status of %s: %v", s, err)
			return
		}
		for _, l := range st {
			if l.Used+l.Overage+l.Held > most || l.Overage > 0 || l.Stranded > l.Held {
				w.fail("%s stands at used %d, held %d (stranded %d), overage %d of %d", s, l.Used, l.Held, l.Stranded, l.Overage, most)
			}
		}
	}
	blocks, err := w.admin.StrandedBlocks(w.ctx, leaseOrg)
	if err != nil {
		w.fail("list stranded blocks: %v", err)
	}
	for _, b := range blocks {
		if b.Held > w.ever[b.ID].Held {
			w.ever[b.ID] = b
		}
	}
}
