package pgstore

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store"
)

// job is what a process of a test has to do.
type job struct {
	DSN, Schema string
	Skew        time.Duration // of its clock
	Fast        int64         // how much faster than the real one its time goes; 0: the server's time
	Start       time.Time     // when fast time began
	Tokens      []string
	Workers     int
	Calls       int // of each worker
	Cost        quota.Credits
}

// done is what it did.
type done struct {
	Admitted, Refused int64
	Clock             time.Duration // its Store's clock less the server's
}

const envJob = "KEYPURSE_TEST_JOB"

// TestProcess is a process of a test, and none where it is not asked for.
func TestProcess(t *testing.T) {
	text := os.Getenv(envJob)
	if text == "" {
		return
	}
	var j job
	require.NoError(t, json.Unmarshal([]byte(text), &j))
	d, err := j.run()
	require.NoError(t, err)
	out, err := json.Marshal(d)
	require.NoError(t, err)
	fmt.Printf("\ndone %s\n", out)
}

// fast is a time that goes so much faster since start.
func fast(start time.Time, by int64) func() time.Time {
	if by == 0 {
		return nil
	}
	return func() time.Time { return start.Add(time.Duration(by) * time.Since(start)) }
}

func (j *job) run() (d done, err error) {
	st, err := Open(ctx, j.DSN, Config{Schema: j.Schema, now: func() time.Time { return time.Now().Add(j.Skew) }})
	if err != nil {
		return d, err
	}
	defer st.Close()
	d.Clock = time.Until(st.Now())
	svc, err := saccount.New(st, saccount.Config{Now: fast(j.Start, j.Fast)})
	if err != nil {
		return d, err
	}
	defer svc.Close()
	var admitted, refused atomic.Int64
	errs := make(chan error, j.Workers)
	for w := range j.Workers {
		go func() {
			for i := range j.Calls {
				_, dec, err := svc.AuthenticateAndCharge(ctx, j.Tokens[(w+i)%len(j.Tokens)], nil, saccount.Charge{Amount: j.Cost})
				switch {
				case err != nil:
					errs <- err
					return
				case dec.Allowed:
					admitted.Add(1)
				default:
					refused.Add(1)
				}
			}
			errs <- nil
		}()
	}
	for range j.Workers {
		if e := <-errs; e != nil && err == nil {
			err = e
		}
	}
	d.Admitted, d.Refused = admitted.Load(), refused.Load()
	return d, err
}

// processes runs the jobs, each in a process of its own, at once.
func processes(t *testing.T, jobs ...job) []done {
	t.Helper()
	out := make([]done, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		text, err := json.Marshal(j)
		require.NoError(t, err)
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestProcess$", "-test.count=1")
			cmd.Env = append(os.Environ(), envJob+"="+string(text))
			b, err := cmd.CombinedOutput()
			if !assert.NoError(t, err, "%s", b) {
				return
			}
			for line := range strings.Lines(string(b)) {
				if rest, ok := strings.CutPrefix(line, "done "); ok {
					assert.NoError(t, json.Unmarshal([]byte(rest), &out[i]))
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return out
}

// fleet is an organization with a limit, two accounts and four keys.
type fleet struct {
	svc    *saccount.Service
	store  store.Store
	tokens []string
	keys   []saccount.Key
}

const actor = saccount.Actor("test")

func newFleet(t *testing.T, st store.Store, org, account saccount.Limits, now func() time.Time) *fleet {
	t.Helper()
	svc, err := saccount.New(st, saccount.Config{Now: now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	f := &fleet{svc: svc, store: st}
	_, err = svc.CreateOrg(ctx, actor, saccount.OrgSpec{ID: "acme", Limits: org})
	require.NoError(t, err)
	for i := range 2 {
		a, err := svc.CreateAccount(ctx, actor, "acme", saccount.AccountSpec{Name: fmt.Sprintf("Worker %d", i), Limits: account})
		require.NoError(t, err)
		for k := range 2 {
			token, key, err := svc.CreateKey(ctx, actor, "acme", a.ID, saccount.KeySpec{Name: fmt.Sprintf("Key %d", k)})
			require.NoError(t, err)
			f.tokens = append(f.tokens, token.Reveal())
			f.keys = append(f.keys, key)
		}
	}
	return f
}

// sums checks that key, account and organization agree, and gives what the
// organization spent.
func (f *fleet) sums(t *testing.T) (credits quota.Credits, requests int64) {
	t.Helper()
	of := func(sub quota.Subject) (c quota.Credits, n int64) {
		got, err := f.svc.UsageTotals(ctx, "acme", []quota.Subject{sub}, time.Unix(0, 0), time.Unix(0, 0).AddDate(200, 0, 0))
		require.NoError(t, err)
		require.Len(t, got, 1)
		return got[0].Credits, got[0].Requests
	}
	var kc, ac quota.Credits
	var kn, an int64
	accounts := map[string]bool{}
	for _, k := range f.keys {
		c, n := of(quota.NewSubject(quota.KindKey, k.ID))
		kc, kn = kc+c, kn+n
		accounts[k.Account] = true
	}
	for id := range accounts {
		c, n := of(quota.NewSubject(quota.KindAccount, id))
		ac, an = ac+c, an+n
	}
	credits, requests = of(quota.NewSubject(quota.KindOrg, "acme"))
	assert.Equal(t, credits, kc, "keys and organization")
	assert.Equal(t, credits, ac, "accounts and organization")
	assert.Equal(t, requests, kn)
	assert.Equal(t, requests, an)
	return credits, requests
}
