package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/browser"
	"github.com/keypurse/keypurse/internal/need"
)

// deadline bounds every step of a test. It is long: nothing waits for it but
// what fails.
const deadline = 30 * time.Second

// lanName is a name that leads to this machine, and that the browser trusts no
// more than any other name that is reached without TLS.
const lanName = "console.lan"

// shared is the one browser of the test binary.
var shared struct {
	once sync.Once
	ctx  context.Context
	stop func()
	axe  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	os.Exit(code)
}

// launch gives the browser, started when it is first asked for.
func launch(t *testing.T) context.Context {
	t.Helper()
	shared.once.Do(func() {
		path, err := browser.Find()
		if err != nil {
			shared.err = err
			return
		}
		axe, err := browser.Axe()
		if err != nil {
			shared.err = err
			return
		}
		script, err := os.ReadFile(axe)
		if err != nil {
			shared.err = err
			return
		}
		shared.axe = string(script)
		opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.Flag("host-resolver-rules", "MAP "+lanName+" 127.0.0.1"))
		if os.Geteuid() == 0 {
			opts = append(opts, chromedp.NoSandbox) // it refuses to run as root otherwise
		}
		allocator, stopAll := chromedp.NewExecAllocator(context.Background(), opts...)
		ctx, stop := chromedp.NewContext(allocator, chromedp.WithDebugf(said.add))
		shared.ctx, shared.stop = ctx, func() { stop(); stopAll() }
		shared.err = chromedp.Do(ctx)
	})
	need.Have(t, shared.err)
	return shared.ctx
}

// talk is what was last said to the browser and by it, for a step that does not
// end.
type talk struct {
	mu   sync.Mutex
	last []string
}

var said talk

func (s *talk) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last[max(0, len(s.last)-40):], time.Now().Format("05.000 ")+text[:min(len(text), 240)])
}

func (s *talk) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.last, "\n")
}

// ended fails the test where a step went wrong or did not end in time.
func (b *tab) ended(err error) {
	b.t.Helper()
	if errors.Is(err, context.DeadlineExceeded) {
		b.t.Log("said last:\n" + said.String())
	}
	require.NoError(b.t, err)
}

// tab is one tab of a person's browser.
type tab struct {
	t    *testing.T
	host *host
	ctx  context.Context

	mu        sync.Mutex
	faults    []fault
	allowed   string          // what the browser may complain of
	documents map[string]bool // addresses of pages, which may be refused
}

// fault is something that the browser complains of.
type fault struct{ url, text string }

// open opens a browser of somebody's own, signed in to the host.
func (h *host) browser(t *testing.T, as string) *tab {
	t.Helper()
	b := &tab{t: t, host: h, documents: map[string]bool{}}
	b.attach(launch(t), chromedp.WithNewBrowserContext())
	if as != "" {
		b.open(h.base + "/login?as=" + as)
	}
	return b
}

// another is a second tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	c := &tab{t: b.t, host: b.host, documents: map[string]bool{}}
	c.attach(b.ctx)
	return c
}

func (b *tab) attach(parent context.Context, opts ...chromedp.ContextOption) {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(parent, append(opts, chromedp.WithListener(b.listen))...)
	b.ctx = ctx
	b.t.Cleanup(func() {
		cancel()
		for _, f := range b.complaints() {
			assert.Fail(b.t, "the browser complains", f)
		}
	})
	b.do()
	b.do(chromedp.Func(focused))
}

// listen notes what the browser complains of: exceptions, errors on the console,
// and what the content security policy kept from running.
func (b *tab) listen(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, fault{"", ev.ExceptionDetails.Text})
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			b.faults = append(b.faults, fault{"", fmt.Sprint("console: ", ev.Args)})
		}
	case *log.EventEntryAdded:
		f := fault{"", ev.Entry.Text}
		if ev.Entry.Source == log.EntrySourceNetwork {
			f.url, _, _ = strings.Cut(ev.Entry.URL, "#")
		}
		b.faults = append(b.faults, f)
	case *network.EventResponseReceived:
		if ev.Type == network.ResourceTypeDocument {
			b.documents[ev.Response.URL] = true
		}
	}
}

// complaints are what the browser complained of; that a page was refused is for
// the test to judge.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, f := range b.faults {
		if (f.url == "" || !b.documents[f.url]) && (b.allowed == "" || !strings.Contains(f.text, b.allowed)) {
			out = append(out, f.url+" "+f.text)
		}
	}
	return out
}

// do runs steps, in bounded time.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if b.ctx.Err() == nil && len(steps) == 0 { // the first run is the tab's life
		require.NoError(b.t, chromedp.Do(b.ctx))
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	b.ended(chromedp.Do(ctx, steps...))
}

// js evaluates an expression in the page; a promise is waited for.
func js[T any](b *tab, expr string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr, chromedp.EvalAwaitPromise))
	b.ended(err)
	return v
}

// leads runs steps that lead to another page, and gives its status.
func (b *tab) leads(steps ...chromedp.Action[chromedp.Void]) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	res, err := chromedp.RunResponse(ctx, steps...)
	b.ended(err)
	if res == nil {
		return 0 // it was not asked for over the network
	}
	return int(res.Status)
}

// open goes to an address: a page below the mount path, or a whole one.
func (b *tab) open(where string) int {
	b.t.Helper()
	return b.leads(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		return navigate(ctx, t, b.host.at(where))
	}))
}

// named is the link or button with a text.
func named(text string) string {
	return fmt.Sprintf(`//a[normalize-space()=%[1]q]|//button[normalize-space()=%[1]q]`, text)
}

// labelled is the field with a label.
func labelled(label string) string {
	return fmt.Sprintf(`//*[@id=//label[normalize-space()=%[1]q]/@for]|//label[normalize-space()=%[1]q]/input`, label)
}

// press clicks on a link or a button that leads to another page, and gives its
// status.
func (b *tab) press(text string) int {
	b.t.Helper()
	return b.leads(chromedp.Click(named(text)))
}

// fill types into a field, in place of what is there.
func (b *tab) fill(label, text string) { b.t.Helper(); b.retype(labelled(label), text) }

// fillNamed is for a field whose label others have too.
func (b *tab) fillNamed(name, text string) { b.t.Helper(); b.retype(byName(name), text) }

func byName(name string) string { return fmt.Sprintf(`//*[@name=%q]`, name) }

func (b *tab) retype(sel, text string) {
	b.t.Helper()
	b.do(chromedp.Focus(sel), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error { return insert(ctx, t, text) }))
}

// choose chooses an option by what it says, as a person's browser does.
func (b *tab) choose(label, option string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(labelled(label), option))
}

func (b *tab) chooseNamed(name, option string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(byName(name), option))
}

// hides waits until nothing fits a selector of CSS.
func (b *tab) hides(css string) { b.t.Helper(); b.do(chromedp.WaitNotPresent(chromedp.CSS(css))) }

// click clicks on a field, or on whatever a label is of.
func (b *tab) click(label string) {
	b.t.Helper()
	b.do(chromedp.Click(labelled(label)))
}

// text is what the page says, as it is seen.
func (b *tab) text() string {
	b.t.Helper()
	return js[string](b, "document.body.innerText")
}

// sees waits until the page says something.
func (b *tab) sees(text string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(fmt.Sprintf("//*[normalize-space(text())='%s']", text)))
}

// value is what is in a field.
func (b *tab) value(label string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Value(labelled(label)))
	require.NoError(b.t, err)
	return v
}

// source is all of the page's document, seen or not, with what is in its fields.
func (b *tab) source() string {
	b.t.Helper()
	return js[string](b, `document.documentElement.outerHTML + [...document.querySelectorAll("input, textarea")].map(f => f.value).join("\n")`)
}

// look sets width of the window and the colours that the person likes.
func (b *tab) look(width int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, 640), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		return setMedia(ctx, t, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}))
}
