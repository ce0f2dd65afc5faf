package alert_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/quota"
)

// names is a name server on this machine: each question of a name gets the next
// of its addresses, the last one for ever.
type names struct {
	mu    sync.Mutex
	of    map[string][]netip.Addr
	asked int
}

func (n *names) answer(name string, v6 bool) (addr netip.Addr, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	list := n.of[strings.TrimSuffix(name, ".")]
	if len(list) == 0 || list[0].Is4() == v6 {
		return addr, false
	}
	if len(list) > 1 {
		n.of[strings.TrimSuffix(name, ".")] = list[1:]
	}
	return list[0], true
}

// say gives a name its addresses.
func (n *names) say(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.of[name] = append(n.of[name], netip.MustParseAddr(a))
	}
}

func (n *names) questions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// resolver asks the name server.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			k, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := n.reply(buf[:k]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply is a DNS answer (RFC 1035, 4.1) to a question of one name.
func (n *names) reply(q []byte) []byte {
	if len(q) < 17 {
		return nil
	}
	var name strings.Builder
	i := 12
	for i < len(q) && q[i] != 0 {
		name.Write(q[i+1 : i+1+int(q[i])])
		name.WriteByte('.')
		i += 1 + int(q[i])
	}
	kind := binary.BigEndian.Uint16(q[i+1:])
	end := i + 5
	addr, ok := n.answer(name.String(), kind == 28)
	out := append([]byte{}, q[:end]...)
	out[2], out[3] = 0x84, 0 // an answer with authority
	copy(out[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if !ok || kind != 1 && kind != 28 {
		return out
	}
	out[7] = 1
	out = append(out, 0xc0, 12)
	out = binary.BigEndian.AppendUint16(out, kind)
	out = append(out, 0, 1, 0, 0, 0, 0)
	raw := addr.AsSlice()
	out = binary.BigEndian.AppendUint16(out, uint16(len(raw)))
	return append(out, raw...)
}

// Addresses that lead into the host's own network are refused, as they are
// written or when they are dialled, and no connection is made.
func TestHostileAddresses(t *testing.T) {
	// A listener where the attacker would like to get to.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var accepted atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = c.Close()
		}
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	ns := &names{of: map[string][]netip.Addr{}}
	hooks := alert.NewWebhooks(alert.WebhookConfig{AllowHTTP: true, Ports: []uint16{}, Resolver: ns.resolver(t)})

	at := func(host string) string {
		return "http://" + net.JoinHostPort(strings.Trim(host, "[]"), itoa(port)) + "/"
	}
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
		"192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]",
		"[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::1]", "[fec0::1]",
		// other ways to write an address
		"2130706433", "017700000001", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "0", "0x0", "169.254.43518", "2852039166",
	} {
		address := at(host)
		if strings.Contains(host, "%") {
			address = "http://" + host + ":" + itoa(port) + "/"
		}
		_, err := hooks.Sink(address, secret(t, 1))
		assert.ErrorIs(t, err, quota.ErrInvalid, host)
	}
	for _, address := range []string{
		"", "://", "ftp://example.com", "file:///etc/passwd", "gopher://example.com", "https://", "https:///x", "https:example.com", "//example.com", "https://user:pw@example.com", "https://u@example.com",
		"https://example.com#x", "https://example.com:0", "https://example.com:99999", "https://exa mple.com", "javascript:alert(1)", "https://example.com/" + strings.Repeat("x", 2048), "https://[::1", "unix:///var/run/docker.sock",
	} {
		assert.ErrorIs(t, hooks.Check(address), quota.ErrInvalid, address)
	}

	// Names that lead there, at once or the second time (DNS rebinding).
	for i, to := range []string{
		"127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.3.4", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001::1",
	} {
		name := "n" + itoa(i) + ".example.com"
		ns.say(name, to)
		sink, err := hooks.Sink(at(name), secret(t, 1))
		require.NoError(t, err, "a name is looked at when it is dialled")
		err = sink.Send(ctx, sample())
		assert.ErrorIs(t, err, alert.ErrProhibited, to)
		if err != nil {
			assert.NotContains(t, err.Error(), to, "what a name means inside is nobody's business")
		}
	}
	ns.say("rebind.example.com", "203.0.113.7", "127.0.0.1")
	sink, err := hooks.Sink(at("rebind.example.com"), secret(t, 1))
	require.NoError(t, err)
	for range 3 {
		assert.ErrorIs(t, sink.Send(ctx, sample()), alert.ErrProhibited)
	}
	assert.NotZero(t, ns.questions(), "the names were asked for")

	require.NoError(t, ln.Close())
	<-done
	assert.Zero(t, accepted.Load(), "connections into the host's own network")
}

// The zero configuration wants https and its port.
func TestPlainAddresses(t *testing.T) {
	hooks := alert.NewWebhooks(alert.WebhookConfig{})
	for _, ok := range []string{"https://example.com", "https://example.com/in?x=1", "https://example.com:443/", "https://8.8.8.8/", "https://[2606:4700::1111]/", "https://xn--bcher-kva.example/"} {
		assert.NoError(t, hooks.Check(ok), ok)
	}
	for _, bad := range []string{"http://example.com", "https://example.com:8443", "https://8.8.8.8:22", "https://[2606:4700::1111]:80/"} {
		assert.ErrorIs(t, hooks.Check(bad), quota.ErrInvalid, bad)
	}
	_, err := hooks.Sink("https://example.com")
	assert.ErrorIs(t, err, quota.ErrInvalid, "no secret")
	_, err = hooks.Sink("https://example.com", alert.Secret{})
	assert.ErrorIs(t, err, quota.ErrInvalid, "an empty secret")
}
