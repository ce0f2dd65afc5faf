package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	exportLine  = regexp.MustCompile(`(?m)^export KEYPURSE_TOKEN=(\S+)$`)
	servingLine = regexp.MustCompile(`Serving on (http://\S+),`)
)

// program is the quickstart as a process of its own, started as the README says.
type program struct {
	cmd  *exec.Cmd
	url  string
	text string // what it printed before it served
	rest *sync.WaitGroup
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "quickstart")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

func start(t *testing.T, bin, db string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(bin, append([]string{"-addr", "127.0.0.1:0", "-db", db}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &program{cmd: cmd, rest: new(sync.WaitGroup)}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // where the test did not end it
	in := bufio.NewReader(stdout)
	for p.url == "" {
		line, err := in.ReadString('\n')
		require.NoError(t, err, "it ended after printing:\n%s", p.text)
		p.text += line
		if m := servingLine.FindStringSubmatch(line); m != nil {
			p.url = m[1]
		}
	}
	p.rest.Go(func() { _, _ = io.Copy(io.Discard, in) })
	return p
}

func (p *program) end(t *testing.T, sig os.Signal) error {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
	p.rest.Wait()
	return p.cmd.Wait()
}

// call sends a request and gives the status and the JSON of the answer.
func call(t *testing.T, method, url, token string, body io.Reader, edit ...func(*http.Request)) (int, map[string]any, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, e := range edit {
		e(req)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	var v map[string]any
	require.NoError(t, json.NewDecoder(res.Body).Decode(&v))
	return res.StatusCode, v, res.Header
}

func TestFromNothingToAChargedRequest(t *testing.T) {
	bin, db := build(t), filepath.Join(t.TempDir(), "purse.db")
	p := start(t, bin, db)
	m := exportLine.FindStringSubmatch(p.text)
	require.NotNil(t, m, p.text)
	token := m[1]

	code, v, _ := call(t, "POST", p.url+"/v1/words", token, strings.NewReader("to be or not\tto\nbe"))
	require.Equal(t, 200, code, v)
	assert.Equal(t, map[string]any{"words": 6., "credits": "0.06", "remaining": "499.94"}, v)
	code, v, _ = call(t, "POST", p.url+"/v1/words", token, strings.NewReader(""))
	require.Equal(t, 200, code, v)
	assert.Equal(t, map[string]any{"words": 0., "credits": "0", "remaining": "499.94"}, v)

	code, v, _ = call(t, "POST", p.url+"/v1/words", token, strings.NewReader(strings.Repeat("x", 100_001)))
	assert.Equal(t, 413, code, v)
	code, v, _ = call(t, "POST", p.url+"/v1/words", token, io.MultiReader(strings.NewReader("no length")))
	assert.Equal(t, 411, code, v)
	code, _, h := call(t, "POST", p.url+"/v1/words", "", strings.NewReader("x"))
	assert.Equal(t, 401, code)
	assert.Contains(t, h.Get("WWW-Authenticate"), "Bearer realm=")
	code, _, _ = call(t, "POST", p.url+"/v1/words", token+"x", strings.NewReader("x"))
	assert.Equal(t, 401, code)

	code, v, _ = call(t, "GET", p.url+"/v1/me", token, nil)
	require.Equal(t, 200, code, v)
	limits := v["limits"].([]any)
	require.Len(t, limits, 1)
	limit := limits[0].(map[string]any)
	assert.Equal(t, "0.06", limit["used"])
	assert.Equal(t, "0", limit["held"])
	assert.Equal(t, "499.94", limit["remaining"])
	at, err := time.Parse(time.RFC3339, limit["resets_at"].(string))
	require.NoError(t, err)
	assert.True(t, at.After(time.Now()))
	assert.Equal(t, accountName, v["account"].(map[string]any)["name"])
	assert.Equal(t, keyName, v["key"].(map[string]any)["name"])
	use := v["usage"].(map[string]any)["last_24_hours"].(map[string]any)
	assert.Equal(t, "0.06", use["credits"])
	require.NoError(t, p.end(t, syscall.SIGTERM), "it shuts down cleanly")

	p = start(t, bin, db)
	assert.NotRegexp(t, exportLine, p.text, "the key is not shown again")
	assert.Contains(t, p.text, "was shown once")
	assert.Contains(t, p.text, "-new-key")
	require.NoError(t, p.end(t, os.Interrupt))

	p = start(t, bin, db, "-new-key", "Second")
	m = exportLine.FindStringSubmatch(p.text)
	require.NotNil(t, m, p.text)
	code, v, _ = call(t, "POST", p.url+"/v1/words", m[1], strings.NewReader("one"))
	require.Equal(t, 200, code)
	assert.Equal(t, "499.93", v["remaining"], "both keys have the one purse of their account")
	require.NoError(t, p.end(t, syscall.SIGTERM))
}

func TestWhatWasAnsweredIsStillThereAfterKill9(t *testing.T) {
	bin, db := build(t), filepath.Join(t.TempDir(), "purse.db")
	p := start(t, bin, db)
	token := exportLine.FindStringSubmatch(p.text)[1]
	answered := 0
	for range 5 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					req, err := http.NewRequest("POST", p.url+"/v1/words", strings.NewReader("word"))
					if err != nil {
						return
					}
					req.Header.Set("Authorization", "Bearer "+token)
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						return // killed
					}
					if res.StatusCode == 200 {
						mu.Lock()
						answered++
						if answered%10 == 0 {
							_ = p.cmd.Process.Signal(syscall.SIGKILL)
						}
						mu.Unlock()
					}
					res.Body.Close()
				}
			})
		}
		wg.Wait()
		close(stop)
		p.rest.Wait()
		_ = p.cmd.Wait() // killed
		p = start(t, bin, db)
		code, v, _ := call(t, "GET", p.url+"/v1/me", token, nil)
		require.Equal(t, 200, code)
		words := int(v["usage"].(map[string]any)["last_24_hours"].(map[string]any)["requests"].(float64))
		assert.GreaterOrEqual(t, words, answered, "every answered request is charged")
		assert.LessOrEqual(t, words, answered+4*5, "and at most those that were on their way besides")
	}
	require.NoError(t, p.end(t, syscall.SIGTERM))
}

func TestASecondStartOnTheSameFileSaysWho(t *testing.T) {
	bin, db := build(t), filepath.Join(t.TempDir(), "purse.db")
	p := start(t, bin, db)
	out, err := exec.CommandContext(t.Context(), bin, "-addr", "127.0.0.1:0", "-db", db).CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), db)
	assert.Contains(t, string(out), "another process")
	require.NoError(t, p.end(t, syscall.SIGTERM))
}
