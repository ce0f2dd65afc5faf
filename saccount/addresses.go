package saccount

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/keypurse/keypurse/alert"
)

// addresses knows which key was seen where, as far as this process remembers;
// what the store remembers decides.
type addresses struct {
	mu    sync.Mutex
	seen  map[[2]string]bool   // key, network
	muted map[string]time.Time // until when a key is not alerted of again
}

const (
	maxSeen  = 1 << 16
	muteTime = 24 * time.Hour
)

// network is what counts as one address.
func network(addr string) string {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return ""
	}
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 32
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	if a.Is4() {
		return a.String()
	}
	return p.String()
}

// used is told of last uses before they are written.
func (a *alerts) used(ctx context.Context, ts []Touch) {
	if !a.rules.NewAddress {
		return
	}
	for i := range ts {
		if err := a.usedFrom(ctx, &ts[i]); err != nil {
			a.service.log.Warn("keypurse: whether a key was used from a new address is not known", "key", ts[i].Key, "error", err)
		}
	}
}

func (a *alerts) usedFrom(ctx context.Context, t *Touch) error {
	net := network(t.Use.Addr)
	at := [2]string{t.Key, net}
	x := &a.addresses
	x.mu.Lock()
	known := net == "" || x.seen[at]
	muted := t.Use.At.Before(x.muted[t.Key])
	x.mu.Unlock()
	if known {
		return nil
	}
	l, err := a.service.store.Lookup(ctx, t.Org, KindKey, t.Key)
	if err != nil {
		return err
	}
	was := network(l.Record.Use.Addr)
	n, err := readNode(l.Record)
	if err != nil {
		return err
	}
	post := func(net string, quiet bool) (alert.Post, error) {
		p, err := alert.New(alert.KindKeyAddress, n.subject(), net, t.Use.At, t.Use.At.Add(episodeKept), map[string]string{alert.FigureAddress: net, "account": n.Parent})
		p.Quiet = quiet
		return p, err
	}
	var posts []alert.Post
	first := was == ""
	if !first && was != net { // the rule may be younger than the key
		p, err := post(was, true)
		if err != nil {
			return err
		}
		posts = append(posts, p)
	}
	p, err := post(net, first || was == net || muted)
	if err != nil {
		return err
	}
	if err := a.service.store.Write(ctx, Batch{Org: t.Org, At: t.Use.At, Alerts: append(posts, p)}); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.seen) >= maxSeen {
		clear(x.seen)
	}
	if len(x.muted) >= maxSeen {
		clear(x.muted)
	}
	x.seen[at] = true
	if !p.Quiet {
		x.muted[t.Key] = t.Use.At.Add(muteTime)
	}
	return nil
}
