package alert

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/keypurse/keypurse/quota"
)

// ErrProhibited says that a webhook's host is, or resolves to, an address that
// is not a public one, or a port that is not allowed. No connection was made.
var ErrProhibited = errors.New("its address is not allowed: webhooks go to public addresses alone")

// WebhookConfig says where webhooks may go. Its zero value is what an internet
// service wants: https to port 443 of public addresses.
type WebhookConfig struct {
	// AllowHTTP lets addresses begin with http: too. What is sent is signed and
	// not secret from whoever is on the way.
	AllowHTTP bool
	// Allow are networks that webhooks may go to besides public addresses: the
	// host's own, a machine's loopback for a demonstration.
	Allow []netip.Prefix
	// Ports that webhooks may go to. Nil: 443, and 80 with AllowHTTP; empty and
	// not nil: every port.
	Ports []uint16
	// Resolver finds addresses. Nil is net.DefaultResolver. Whatever it finds is
	// looked at when the connection is made, so a name that means another
	// address the second time gains nothing.
	Resolver *net.Resolver
	// TLS is for hosts with roots of their own. Nil: the system's, TLS 1.2 or
	// newer.
	TLS *tls.Config
	// Now is the clock of timestamps. Nil is time.Now.
	Now func() time.Time
}

// Webhooks makes the sinks that post to endpoints. No connection goes to the
// host's own networks: the address is checked after it was resolved, when it is
// dialled, against IANA's registries of special addresses; redirects are not
// followed; proxies of the environment are not used. Safe for concurrent use. It
// keeps no connection open.
type Webhooks struct {
	cfg    WebhookConfig
	guard  *ssrf.Guardian
	client *http.Client
}

// maxURL bounds an address, in bytes.
const maxURL = 2048

// NewWebhooks makes one.
func NewWebhooks(cfg WebhookConfig) *Webhooks {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Ports == nil {
		cfg.Ports = []uint16{443}
		if cfg.AllowHTTP {
			cfg.Ports = append(cfg.Ports, 80)
		}
	}
	w := &Webhooks{cfg: cfg}
	var v4, v6 []netip.Prefix
	for _, p := range cfg.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	opts := []ssrf.Option{ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...), ssrf.WithPorts(cfg.Ports...)}
	if len(cfg.Ports) == 0 {
		opts = append(opts, ssrf.WithAnyPort())
	}
	w.guard = ssrf.New(opts...)
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: cfg.Resolver, Control: w.control}
	w.client = &http.Client{
		Transport: &http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: 10 * time.Second,
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w
}

// control is asked before each connection, with the address as it was resolved.
func (w *Webhooks) control(network, address string, c syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProhibited, err)
	}
	// An IPv4 address written as an IPv6 one is what it is; a system may connect
	// to it as such.
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if err := w.guard.SafeAddrPort(to); err != nil {
		return fmt.Errorf("%w: %w", ErrProhibited, err)
	}
	return nil
}

// Check refuses an address that nothing can be sent to: one that is not an
// absolute https URL (or http where that is allowed), with a user, a port that
// is not allowed, an address of a network that is not allowed, or a number for
// a host. What a name resolves to is looked at when it is dialled. Errors wrap
// quota.ErrInvalid.
func (w *Webhooks) Check(address string) error {
	bad := func(why string) error {
		return fmt.Errorf("alert: webhook: %w address: %s", quota.ErrInvalid, why)
	}
	if len(address) > maxURL {
		return bad("longer than 2048 bytes")
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return bad("it is not a URL") // the error would repeat it
	case u.Scheme != "https" && !(u.Scheme == "http" && w.cfg.AllowHTTP):
		return bad(`it must begin with "https://"`)
	case u.Hostname() == "" || u.Opaque != "":
		return bad("it has no host")
	case u.User != nil:
		return bad("a user or password in it is not sent; authenticate what is received by its signature")
	case u.Fragment != "":
		return bad("a fragment in it is not sent")
	}
	port := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	if u.Port() != "" {
		port = u.Port()
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return bad("its port is not one")
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return bad("its host has a zone")
		}
		return w.allowed(netip.AddrPortFrom(ip, uint16(n)))
	}
	if endsInNumber(host) {
		return bad("its host is a number; give a name, or an address as 192.0.2.1 or [2001:db8::1]")
	}
	if len(w.cfg.Ports) > 0 && !containsPort(w.cfg.Ports, uint16(n)) {
		return bad(fmt.Sprintf("port %d is not allowed", n))
	}
	return nil
}

func (w *Webhooks) allowed(to netip.AddrPort) error {
	if err := w.control("", to.String(), nil); err != nil {
		return fmt.Errorf("alert: webhook: %w address: %w", quota.ErrInvalid, ErrProhibited)
	}
	return nil
}

func containsPort(ports []uint16, p uint16) bool {
	for _, q := range ports {
		if q == p {
			return true
		}
	}
	return false
}

// endsInNumber reports whether browsers and some resolvers read a host as an
// IPv4 address in another way of writing: 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG
// URL, "ends in a number checker").
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}
