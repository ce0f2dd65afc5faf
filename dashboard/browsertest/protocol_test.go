package browsertest

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var addr = netip.MustParseAddr("192.0.2.10")

func navigate(ctx context.Context, t *chromedp.Target, url string) error {
	_, err := cdp.Call(ctx, t, page.Navigate, page.NavigateParams{URL: url})
	return err
}

func setMedia(ctx context.Context, t *chromedp.Target, p emulation.SetEmulatedMediaParams) error {
	_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, p)
	return err
}

// insert types in place of what is in the field that has the focus.
func insert(ctx context.Context, t *chromedp.Target, text string) error {
	if _, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.activeElement.select()"}); err != nil {
		return err
	}
	_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
	return err
}

// focused keeps the tab as one that somebody looks at, whatever others are open.
func focused(ctx context.Context, t *chromedp.Target) error {
	_, err := cdp.Call(ctx, t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return err
}

// scripts lets scripts run in the tab, or not.
func scripts(on bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// back goes back to the page before, wherever the browser has it from.
func (b *tab) back() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.WaitEvent(page.FrameNavigated, func(e page.EventFrameNavigated) bool { return e.Frame.ParentID == "" },
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			h, err := cdp.Call(ctx, t, page.GetNavigationHistory, cdp.Empty{})
			if err != nil {
				return err
			}
			_, err = cdp.Call(ctx, t, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: h.Entries[h.CurrentIndex-1].ID})
			return err
		})))
	require.NoError(b.t, err)
	require.Eventually(b.t, func() bool { // a page that is shown from memory is not loaded
		res, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.readyState"})
		return err == nil && string(res.Result.Value) == `"complete"`
	}, deadline, 10*time.Millisecond)
}

// allowClipboard lets the page's own test read what was copied.
func (b *tab) allowClipboard() {
	b.t.Helper()
	c := chromedp.FromContext(b.ctx)
	_, err := cdp.Call(b.ctx, c.Browser, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "clipboard-read"}, Setting: browser.PermissionSettingGranted, BrowserContextID: c.BrowserContextID,
	})
	require.NoError(b.t, err)
}

// submit makes the page send a form to an address, as any page can.
func submit(to string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: fmt.Sprintf(
			`(() => { const f = document.createElement("form"); f.method = "post"; f.action = %q; document.body.append(f); f.submit(); })()`, to)})
		return err
	})
}

// downloads has what is downloaded put into a directory.
func (b *tab) downloads(dir string) {
	b.t.Helper()
	c := chromedp.FromContext(b.ctx)
	_, err := cdp.Call(b.ctx, c.Browser, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: c.BrowserContextID,
	})
	require.NoError(b.t, err)
}
