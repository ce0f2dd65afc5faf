package saccount_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/alert"
	"github.com/keypurse/keypurse/internal/pgtest"
	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
	"github.com/keypurse/keypurse/store/boltstore"
	"github.com/keypurse/keypurse/store/pgstore"
)

// crashWorld is a Service on a file or a schema that alerts three times an hour,
// by a clock that goes on an hour with each charge.
type crashWorld struct {
	*saccount.Service
	st   store.Store
	hour atomic.Int64
}

var crashStart = time.Date(2030, time.January, 1, 0, 30, 0, 0, time.UTC)

// openCrashWorld opens the file at a path, or the schema behind a DSN and "|".
func openCrashWorld(where string, hour int64, sink alert.Func) (*crashWorld, error) {
	w := &crashWorld{}
	w.hour.Store(hour)
	var err error
	if dsn, schema, ok := strings.Cut(where, "|"); ok {
		w.st, err = pgstore.Open(context.Background(), dsn, pgstore.Config{Schema: schema, Timeout: time.Minute})
	} else {
		w.st, err = boltstore.Open(where, boltstore.Config{OpenTimeout: 10 * time.Second})
	}
	if err != nil {
		return nil, err
	}
	w.Service, err = saccount.New(w.st, saccount.Config{
		Now: func() time.Time { return crashStart.Add(time.Duration(w.hour.Load()) * time.Hour) },
		Alerts: saccount.Alerts{
			Poll: time.Millisecond, MaxAge: 100 * 365 * 24 * time.Hour, Rules: saccount.Rules{Expiring: []int{}},
			Sinks: []alert.Route{{Name: "out", Sink: sink}},
		},
	})
	return w, err
}

// told is a line for an alert: what is done with it, its window and threshold,
// and its id.
func told(what string, a alert.Alert) string {
	return fmt.Sprintf("%s %d/%s %s", what, int64(a.Start.Sub(crashStart.Truncate(time.Hour))/time.Hour), a.Threshold, a.ID)
}

// crashChild charges and watches until it is killed. It writes "charged n" when
// the charge of hour n, which passes three thresholds, was acknowledged, and a
// line for each alert that it sends. Where KEYPURSE_HOLD is set it sends none: it
// says which it is about to send, and stays there.
func crashChild(path string) int {
	line := func(s string) { _, _ = os.Stdout.WriteString(s + "\n") } // one write, so that a kill cuts no line
	from, _ := strconv.ParseInt(os.Getenv("KEYPURSE_FROM"), 10, 64)
	w, err := openCrashWorld(path, from, func(_ context.Context, a alert.Alert) error {
		if os.Getenv("KEYPURSE_HOLD") != "" {
			line(told("holds", a))
			select {}
		}
		line(told("sent", a))
		return nil
	})
	if err != nil {
		line(err.Error())
		return 1
	}
	ctx := context.Background()
	go func() { _ = w.Watch(ctx) }()
	p, err := w.Authenticate(ctx, os.Getenv("KEYPURSE_TOKEN"), netip.Addr{})
	if err != nil {
		line(err.Error())
		return 1
	}
	for n := from; ; n++ {
		w.hour.Store(n)
		d, err := w.Charge(ctx, p, saccount.Charge{Amount: 100, ID: "hour" + strconv.FormatInt(n, 10)})
		if err != nil || !d.Allowed {
			line(fmt.Sprint("charge ", n, " ", d.Allowed, " ", err))
			return 1
		}
		line("charged " + strconv.FormatInt(n, 10))
	}
}

// A process that charges and sends is killed (SIGKILL), every second time
// between the commit of an alert and its sending, else at a random moment: every
// alert of an acknowledged charge is sent after the restart at the latest, and
// none has two ids. KEYPURSE_CRASH_KILLS says how often it is killed between the
// two, 50 times unless it is set; on Postgres a fifth of that.
func TestAlertsSurviveKills(t *testing.T) {
	t.Run("boltstore", func(t *testing.T) { surviveKills(t, filepath.Join(t.TempDir(), "s.db"), 1) })
	t.Run("pgstore", func(t *testing.T) {
		dsn, schema := pgtest.Schema(t)
		surviveKills(t, dsn+"|"+schema, 5)
	})
}

func surviveKills(t *testing.T, path string, less int) {
	kills := 50
	if v := os.Getenv("KEYPURSE_CRASH_KILLS"); v != "" {
		var err error
		kills, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	kills /= less
	var mu sync.Mutex
	ids := map[string]map[string]int{} // window and threshold -> id -> how often
	note := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		f := strings.Fields(line)
		if ids[f[1]] == nil {
			ids[f[1]] = map[string]int{}
		}
		ids[f[1]][f[2]]++
	}
	mine := func(_ context.Context, a alert.Alert) error { note(told("sent", a)); return nil }
	w, err := openCrashWorld(path, 0, mine)
	require.NoError(t, err)
	ctx := t.Context()
	_, err = w.CreateOrg(ctx, "test", saccount.OrgSpec{ID: "acme", Limits: saccount.Limits{"": saccount.NewLimit(100, quota.Period{Unit: quota.Hour})}})
	require.NoError(t, err)
	acc, err := w.CreateAccount(ctx, "test", "acme", saccount.AccountSpec{Name: "Worker"})
	require.NoError(t, err)
	token, _, err := w.CreateKey(ctx, "test", "acme", acc.ID, saccount.KeySpec{Name: "Backend"})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, w.st.Close())

	charged := int64(-1)
	held := map[string]string{} // window and threshold -> id of what was about to be sent
	for life := range 2 * kills {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		// The hour of a charge that may have been on its way is asked for again: its id makes that safe.
		cmd.Env = append(os.Environ(), "KEYPURSE_ALERT_CHILD="+path, "KEYPURSE_TOKEN="+token.Reveal(), "KEYPURSE_FROM="+strconv.FormatInt(charged+1, 10))
		hold := life%2 == 0
		if hold {
			cmd.Env = append(cmd.Env, "KEYPURSE_HOLD=1")
		}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		left := 1 + rand.IntN(8) // charges, then the kill
		var once sync.Once
		kill := func() { once.Do(func() { _ = cmd.Process.Kill() }) }
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			switch f := strings.Fields(lines.Text()); f[0] {
			case "charged":
				n, err := strconv.ParseInt(f[1], 10, 64)
				require.NoError(t, err)
				require.Equal(t, charged+1, n)
				charged = n
				if left--; left == 0 && !hold {
					time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, kill)
				}
			case "holds": // it was committed and was not sent
				held[f[1]] = f[2]
				kill()
			case "sent":
				note(lines.Text())
			default:
				require.Fail(t, "the child says", lines.Text())
			}
		}
		kill()
		_ = cmd.Wait() // killed
	}
	require.NotEmpty(t, held)
	sentBefore := len(ids)
	w, err = openCrashWorld(path, charged+24, mine) // behind the end of every claim
	require.NoError(t, err)
	require.NoError(t, w.DeliverAlerts(ctx))
	for n := range charged + 1 {
		for _, th := range quota.DefaultThresholds()[:3] {
			assert.Len(t, ids[fmt.Sprintf("%d/%s", n, th)], 1, "ids of the alert of hour %d at %s", n, th)
		}
	}
	for what, id := range held {
		assert.Equal(t, 1, min(1, ids[what][id]), "%s, which was held back, is sent under the id that it had", what)
	}
	again := 0
	for _, by := range ids {
		for _, n := range by {
			again += n - 1
		}
	}
	t.Logf("%d kills between commit and sending (%d alerts), %d at random, %d charges, %d alerts, %d of them sent before the last start, %d sent a second time", kills, len(held), kills, charged+1, len(ids), sentBefore, again)
	require.NoError(t, w.Close())
	if st, ok := w.st.(*boltstore.Store); ok {
		problems, err := st.Check(ctx)
		require.NoError(t, err)
		assert.Empty(t, problems)
	}
	require.NoError(t, w.st.Close())
}
