package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/keypurse/keypurse/apikey"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
)

// Config says what is simulated.
type Config struct {
	// Seed chooses the history.
	Seed uint64
	// Steps is how many operations are done in all.
	Steps int
	// World is how many steps one world lives: then everything is checked and
	// a new one begins, so that memory is bounded. 0 is 50,000.
	World int
	// Every is how many steps lie between two checks of everything. 0 is 1,000.
	Every int
	// Store is "memory", "bolt" or "postgres". Empty is "memory".
	Store string
	// Dir is where bolt keeps its file.
	Dir string
	// DSN is the server on which postgres makes schemas named for the seed.
	DSN string
	// Wrap, where not nil, stands between the Service and the store: a store
	// that is wrong on purpose must be found out.
	Wrap func(store.Store) store.Store
	// Skip leaves steps out, by their number, as Shrink does. What the others
	// do changes as little as possible.
	Skip map[int]bool
	// Trace keeps a digest of the replies after each step.
	Trace bool
	// Progress, where not nil, is told how far it is.
	Progress func(step int)
}

// Report is what a simulation found where nothing was wrong.
type Report struct {
	Steps   int
	Replies string // SHA-256 of all replies: the same for every store
	Trace   []uint64
	Counts  map[string]int // of what was done and answered
}

// Violation is a reply or a state that is not what it should be.
type Violation struct {
	Seed   uint64
	Step   int
	Store  string
	World  int // as in Config
	Every  int
	Op     string
	Want   string
	Got    string
	Recent []string // the operations before, the last one last
	Stats  map[string]int
}

// Error tells all that is needed to look at it and to see it again.
func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "violation at step %d of seed %d on %s\n  op   %s\n  want %s\n  got  %s\n", v.Step, v.Seed, v.Store, v.Op, v.Want, v.Got)
	for _, s := range v.Recent {
		fmt.Fprintf(&b, "       %s\n", s)
	}
	fmt.Fprintf(&b, "again: go run ./internal/sim/cmd/sim -seed %d -steps %d -world %d -every %d -store %s", v.Seed, v.Step+1, v.World, v.Every, v.Store)
	return b.String()
}

// Run simulates. Its error is a *Violation, or what kept it from running.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	if cfg.World == 0 {
		cfg.World = 50_000
	}
	if cfg.Every == 0 {
		cfg.Every = 1000
	}
	if cfg.Store == "" {
		cfg.Store = "memory"
	}
	sum := sha256.New()
	r.Counts = map[string]int{}
	for from := 0; from < cfg.Steps; from += cfg.World {
		w, err := newWorld(ctx, cfg, from, sum, &r)
		if err != nil {
			return r, err
		}
		if err := w.run(min(cfg.Steps, from+cfg.World)); err != nil {
			return r, err
		}
	}
	r.Steps, r.Replies = cfg.Steps, hex.EncodeToString(sum.Sum(nil))
	return r, nil
}

// world is one store with its Services and its model.
type world struct {
	ctx    context.Context
	cfg    Config
	report *Report
	sum    hash.Hash
	m      *model
	back   *backend
	store  store.Store
	svc    *saccount.Service // the process whose every call is predicted
	other  *saccount.Service // another one on the same store: it charges
	conf   saccount.Config
	rng    *rand.Rand
	logs   bytes.Buffer

	step    int
	name    string
	last    []string
	bad     *Violation
	made    int // numbers of ids
	guests  []*guest
	abroad  []*guest // of the other Service
	handles map[*op]*saccount.Reservation
	secrets []string
	from    time.Time
	alerted int64 // the last alert that was compared
}

// guest is a Principal that somebody keeps.
type guest struct {
	caller
	p saccount.Principal
}

// source makes ids and secrets.
type source struct{ *rand.ChaCha8 }

func newWorld(ctx context.Context, cfg Config, from int, sum hash.Hash, r *Report) (*world, error) {
	w := &world{ctx: ctx, cfg: cfg, report: r, sum: sum, step: from, handles: map[*op]*saccount.Reservation{}}
	w.rng = rand.New(rand.NewPCG(cfg.Seed, uint64(from)|1<<63))
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%d/%d", cfg.Seed, from))
	defaults := [][]quota.Threshold{nil, {}, {quota.Percent(30), quota.Left(3), quota.ThresholdOverage, quota.Percent(100)}}[w.rng.IntN(3)]
	keep := []time.Duration{quota.MinKeep, quota.DefaultKeep}[w.rng.IntN(2)]
	w.m = newModel(defaults, keep)
	if defaults == nil {
		w.m.defaults = quota.DefaultThresholds()
	}
	w.from = time.Date(2026+w.rng.IntN(8), time.Month(1+w.rng.IntN(12)), 1+w.rng.IntN(28), w.rng.IntN(24), w.rng.IntN(60), 0, 0, time.UTC)
	w.m.now = w.from.UnixMicro()
	w.conf = saccount.Config{
		Prefix: "sim", Thresholds: defaults, Keep: keep, CacheSize: []int{0, 64, -1}[w.rng.IntN(3)],
		Peppers: []apikey.Pepper{pepper(0)},
		Logger:  slog.New(slog.NewJSONHandler(&w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:     func() time.Time { return time.UnixMicro(w.m.now) },
		Rand:    source{rand.NewChaCha8(seed)},
	}
	var err error
	if w.back, err = newBackend(cfg, from, w.rng.IntN(2) == 0, w.conf.Logger); err != nil {
		return nil, err
	}
	return w, w.open()
}

func pepper(n int) apikey.Pepper {
	return apikey.Pepper{ID: fmt.Sprintf("p%d", n), Key: bytes.Repeat([]byte{byte('a' + n)}, 32)}
}

// open opens the store and the Services on it.
func (w *world) open() (err error) {
	if w.store, err = w.back.open(); err != nil {
		return fmt.Errorf("sim: open the store: %w", err)
	}
	if w.cfg.Wrap != nil {
		w.store = w.cfg.Wrap(w.store)
	}
	if w.svc, err = saccount.New(w.store, w.conf); err != nil {
		return fmt.Errorf("sim: open the service: %w", err)
	}
	if w.other, err = saccount.New(w.store, w.conf); err != nil {
		return fmt.Errorf("sim: open the other service: %w", err)
	}
	w.guests, w.abroad = nil, nil
	clear(w.handles)
	return nil
}

func (w *world) close() error {
	return errors.Join(w.svc.Close(), w.other.Close(), w.back.close())
}

func (w *world) run(until int) error {
	defer func() { w.back.remove() }()
	for ; w.step < until && w.bad == nil; w.step++ {
		if w.cfg.Skip[w.step] {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		// Each step has its own chance, so that leaving one out changes as
		// little as possible of the others.
		w.rng = rand.New(rand.NewPCG(w.cfg.Seed, uint64(w.step)))
		w.do()
		w.compareAlerts()
		if w.bad == nil && w.step%w.cfg.Every == w.cfg.Every-1 {
			w.checkAll()
		}
		if w.cfg.Trace {
			s := w.sum.Sum(nil)
			w.report.Trace = append(w.report.Trace, uint64(s[0])<<24|uint64(s[1])<<16|uint64(s[2])<<8|uint64(s[3]))
		}
		if w.cfg.Progress != nil && w.step%10_000 == 0 {
			w.cfg.Progress(w.step)
		}
	}
	if w.bad == nil {
		w.step--
		w.checkAll()
		w.checkSecrets()
	}
	err := w.close()
	if w.bad == nil && w.back.files != nil {
		w.checkFiles()
	}
	if w.bad != nil {
		w.bad.Stats = w.report.Counts
		return w.bad
	}
	return err
}

// op names what the step does, before it is done.
func (w *world) op(format string, args ...any) {
	w.name = fmt.Sprintf(format, args...)
	if len(w.last) >= 20 {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, fmt.Sprintf("%d %s %s", w.step, time.UnixMicro(w.m.now).UTC().Format("2006-01-02T15:04:05.000000"), w.name))
}

// same compares a reply with the model's.
func (w *world) same(want, got string) {
	w.sum.Write([]byte(got))
	w.sum.Write([]byte{'\n'})
	what, _, _ := strings.Cut(got, " ")
	verb, _, _ := strings.Cut(w.name, " ")
	w.report.Counts[verb+" "+what]++
	if want != got {
		w.violation(want, got)
	}
}

func (w *world) violation(want, got string) {
	if w.bad == nil {
		w.bad = &Violation{Seed: w.cfg.Seed, Step: w.step, Store: w.cfg.Store, World: w.cfg.World, Every: w.cfg.Every, Op: w.name, Want: want, Got: got, Recent: w.last}
	}
}

// conditionOf names the condition of an error.
func conditionOf(err error) string {
	for _, c := range []struct {
		is   error
		name string
	}{
		{saccount.ErrUnauthenticated, "unauthenticated"}, {saccount.ErrForbidden, "forbidden"},
		{saccount.ErrNotFound, "not found"}, {saccount.ErrExists, "exists"}, {saccount.ErrConflict, "changed meanwhile"},
		{quota.ErrConflict, "conflict"}, {quota.ErrExpired, "expired"}, {quota.ErrUnknownID, "unknown id"},
		{quota.ErrExcess, "excess"}, {quota.ErrOverflow, "overflow"}, {saccount.ErrInvalid, "invalid"},
	} {
		if errors.Is(err, c.is) {
			return c.name
		}
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return "ok"
}

// replyOf is a Decision as replies are compared.
func replyOf(d *quota.Decision, err error) reply {
	if err != nil {
		return condition(conditionOf(err))
	}
	r := reply{what: "refused", replay: d.Replayed, amount: int64(d.Requested), overrun: int64(d.Overrun)}
	if d.Allowed {
		r.what = "allowed"
	}
	r.lines = linesOf(d.Limits())
	return r
}

func linesOf(ls []quota.LimitStatus) (out []line) {
	for _, l := range ls {
		out = append(out, line{
			sub: l.Subject, limit: l.Limit, max: int64(l.Max), extra: int64(l.Extra), used: int64(l.Used), held: int64(l.Held),
			overage: int64(l.Overage), start: micros(l.Start), end: micros(l.ResetAt), soft: l.Soft, refused: l.Refused,
		})
	}
	return out
}

// authOf names the condition of an error with the reason that the log is told.
func authOf(err error) string {
	what := conditionOf(err)
	var e *saccount.AuthError
	if errors.As(err, &e) {
		return what + ": " + e.Reason
	}
	return what
}
