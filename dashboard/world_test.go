package dashboard_test

import (
	"net/http"
	"sort"
	"strings"
	"testing"

	"github.com/keypurse/keypurse/dashboard"
	"github.com/keypurse/keypurse/internal/apiworld"
)

// world is a kit on an apiworld.World.
type world struct {
	*kit
	*requests
	Acme, Globex apiworld.Tenant
	HostToken    string
}

// requests keeps the World's own Service out of sight: it is the kit's.
type requests struct{ of *apiworld.World }

func (r *requests) Request(op apiworld.Operation, x apiworld.Tenant) (path, body string) {
	return r.of.Request(op, x)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, dashboard.Config{})
}

func newWorldWith(t *testing.T, cfg dashboard.Config) *world {
	t.Helper()
	w := apiworld.New(t)
	return &world{kitOf(t, w.Harness, cfg), &requests{w}, w.Acme, w.Globex, w.HostToken}
}

// operations are those of the document.
func (w *world) operations() []apiworld.Operation {
	w.t.Helper()
	doc := w.do(staff, "GET", "openapi.json", "").ok(200)
	var out []apiworld.Operation
	for path, methods := range doc["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			out = append(out, apiworld.Operation{Method: strings.ToUpper(method), Path: strings.TrimPrefix(path, "/"), ID: op.(map[string]any)["operationId"].(string)})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// send sends a good request of an operation.
func (w *world) send(by who, op apiworld.Operation, x apiworld.Tenant, headers ...string) answer {
	w.t.Helper()
	path, body := w.Request(op, x)
	if op.Method == http.MethodPatch {
		headers = append(headers, "If-Match", "*")
	}
	return w.do(by, op.Method, path, body, headers...)
}
