package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/internal/apiworld"
	"github.com/keypurse/keypurse/saccount"
)

// handler is the API of a world; everybody is the host's staff.
func handler(t testing.TB, w *apiworld.World) http.Handler {
	t.Helper()
	h, err := dashboard.New(w.Service, dashboard.Config{Now: w.Now, Authorize: func(*http.Request) (dashboard.Caller, error) {
		return dashboard.Caller{Actor: "user:alice", Host: true, Role: saccount.RoleAdmin}, nil
	}})
	require.NoError(t, err)
	return h
}

// document is the OpenAPI document as it is served.
func document(t testing.TB) []byte {
	t.Helper()
	rec := httptest.NewRecorder()
	handler(t, apiworld.New(t)).ServeHTTP(rec, httptest.NewRequest("GET", "/api/v1/openapi.json", nil))
	require.Equal(t, 200, rec.Code)
	return rec.Body.Bytes()
}

// strict is the document with every object closed, so that a field of an
// answer that it does not know is noticed.
func strict(t testing.TB, doc []byte) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(doc, &m))
	m["servers"] = []any{map[string]any{"url": "/api/v1"}}
	closed := 0
	for _, s := range m["components"].(map[string]any)["schemas"].(map[string]any) {
		if s := s.(map[string]any); s["properties"] != nil {
			s["additionalProperties"] = false
			closed++
		}
	}
	require.Greater(t, closed, 30)
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return b
}

func operations(t testing.TB, doc []byte) []apiworld.Operation {
	t.Helper()
	var m struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(doc, &m))
	require.Equal(t, "3.1.0", m.OpenAPI)
	var out []apiworld.Operation
	for path, methods := range m.Paths {
		for method, op := range methods {
			out = append(out, apiworld.Operation{Method: strings.ToUpper(method), Path: strings.TrimPrefix(path, "/"), ID: op.OperationID})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// The document is one of OpenAPI 3.1; every operation in it is there; a good
// request of each, and its answer, are what it says they are, and so is the
// answer to a bad one.
func TestDocument(t *testing.T) {
	served := document(t)
	doc, err := libopenapi.NewDocument(strict(t, served))
	require.NoError(t, err)
	v, errs := validator.NewValidator(doc)
	require.Empty(t, errs)
	ok, problems := v.ValidateDocument()
	require.True(t, ok, "%v", problems)

	ops := operations(t, served)
	seen := map[string]bool{}
	answers := 0
	for _, op := range ops {
		require.False(t, seen[op.ID], "%s is there twice", op.ID)
		seen[op.ID] = true
		w := apiworld.New(t)
		h := handler(t, w)
		query := "" // more of it
		send := func(body string, headers ...string) *http.Response {
			path, _ := w.Request(op, w.Acme)
			if query != "" {
				path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + query
			}
			request := func() *http.Request {
				r := httptest.NewRequest(op.Method, "/api/v1/"+path, strings.NewReader(body))
				if body != "" {
					r.Header.Set("Content-Type", "application/json")
					if op.Method == http.MethodPatch {
						r.Header.Set("Content-Type", "application/merge-patch+json")
					}
				} else {
					r.Body, r.ContentLength = http.NoBody, 0
				}
				for i := 0; i < len(headers); i += 2 {
					r.Header.Set(headers[i], headers[i+1])
				}
				return r
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, request())
			res := rec.Result()
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			res.Body = io.NopCloser(bytes.NewReader(b))
			answers++
			if res.StatusCode < 300 {
				ok, problems := v.ValidateHttpRequestSync(request())
				assert.True(t, ok, "%s: its request: %s", op.ID, explain(problems))
			}
			if media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); media == "application/jsonl" {
				// The validator takes it for one JSON value.
				assert.True(t, documented(served, op, media), "%s: %s", op.ID, media)
				for line := range bytes.Lines(b) {
					assert.True(t, json.Valid(line), "%s: %s", op.ID, line)
				}
				return res
			}
			ok, problems := v.ValidateHttpResponse(request(), res)
			assert.True(t, ok, "%s: %d %s: %s", op.ID, res.StatusCode, b, explain(problems))
			return res
		}
		var match []string
		if op.Method == http.MethodPatch {
			match = []string{"If-Match", "*"}
		}
		_, body := w.Request(op, w.Acme)
		assert.Less(t, send(body, match...).StatusCode, 300, op.ID)
		if strings.HasPrefix(op.ID, "export") {
			query = "format=csv"
			assert.Equal(t, "text/csv; charset=utf-8", send(body).Header.Get("Content-Type"), op.ID)
			query = ""
		}
		if op.Method == http.MethodPost {
			send(body, "Idempotency-Key", "once")
			send(body, "Idempotency-Key", "once")
		}
		assert.GreaterOrEqual(t, send(`{"no such field":1}`, match...).StatusCode, map[bool]int{true: 200, false: 400}[op.Method == http.MethodGet], op.ID)
	}
	t.Logf("%d operations, %d answers", len(ops), answers)
}

// documented reports whether an operation's answer of success may be of a media
// type.
func documented(doc []byte, op apiworld.Operation, media string) bool {
	var m struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
	}
	if json.Unmarshal(doc, &m) != nil {
		return false
	}
	_, ok := m.Paths["/"+op.Path][strings.ToLower(op.Method)].Responses["200"].Content[media]
	return ok
}

func explain[E interface{ Error() string }](errs []E) string {
	var b strings.Builder
	for _, e := range errs {
		fmt.Fprintln(&b, e.Error())
	}
	return b.String()
}
