package dashboard

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
)

// describe answers with the OpenAPI document.
func describe(c *call) (*reply, error) { return &reply{body: c.document()}, nil }

var wildcard = regexp.MustCompile(`\{([a-z]+)\}`)

// document is the OpenAPI 3.1 document of the routes.
func document(routes []*route) json.RawMessage {
	s := newSchemas()
	paths := map[string]map[string]any{}
	for _, r := range routes {
		path := "/" + r.path
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][lower(r.method)] = r.operation(s)
	}
	problemRef := s.ref(reflect.TypeFor[problem]())
	doc := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":   "keypurse management API",
			"version": "1",
			"description": "Organizations, service accounts, keys, credits and their usage. " +
				"Amounts of credits are decimal strings, times are RFC 3339 in UTC. Unknown fields are refused.",
		},
		"servers":  []any{map[string]any{"url": "."}},
		"security": []any{map[string]any{"bearer": []string{}}, map[string]any{}},
		"paths":    paths,
		"components": map[string]any{
			"schemas": s.byName,
			"securitySchemes": map[string]any{
				"bearer": map[string]any{"type": "http", "scheme": "bearer", "description": "A management key. Whoever the host's own login knows needs none."},
			},
			"responses": map[string]any{
				"Problem": map[string]any{
					"description": "What is wrong (RFC 9457).",
					"content":     map[string]any{"application/problem+json": map[string]any{"schema": problemRef}},
				},
			},
		},
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // maps, strings and numbers
	}
	return append(b, '\n')
}

func lower(method string) string {
	b := []byte(method)
	for i := range b {
		b[i] |= 0x20
	}
	return string(b)
}

func (r *route) operation(s schemas) map[string]any {
	op := map[string]any{"operationId": r.id, "summary": r.about, "description": "Needs the role " + r.role.String() + "."}
	if r.host {
		op["description"] = "Needs the role " + r.role.String() + ", of the host's own staff."
	}
	var params []any
	for _, m := range wildcard.FindAllStringSubmatch(r.path, -1) {
		params = append(params, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string", "minLength": 1}})
	}
	for _, p := range r.query {
		schema := p.schema
		if p.repeated {
			schema = map[string]any{"type": "array", "items": schema}
		}
		x := map[string]any{"name": p.name, "in": "query", "description": p.doc, "schema": schema}
		if p.required {
			x["required"] = true
		}
		params = append(params, x)
	}
	if r.match != matchNone {
		params = append(params, map[string]any{
			"name": "If-Match", "in": "header", "required": r.match == matchNeeded, "schema": map[string]any{"type": "string"},
			"description": "The ETag that was answered with the record, or * for whatever is there.",
		})
	}
	if r.method == http.MethodPost && !r.again {
		params = append(params, map[string]any{
			"name": idempotencyHeader, "in": "header", "schema": map[string]any{"type": "string", "minLength": 1, "maxLength": 258},
			"description": "Makes a retry safe (draft-ietf-httpapi-idempotency-key-header).",
		})
	}
	if params != nil {
		op["parameters"] = params
	}
	if r.body != nil {
		op["requestBody"] = r.requestBody(s)
	}
	op["responses"] = r.responses(s)
	return op
}

func (r *route) requestBody(s schemas) map[string]any {
	t := reflect.TypeOf(r.body)
	media, schema := typeJSON, map[string]any(nil)
	if r.method == http.MethodPatch {
		media = typePatch
		schema = s.patchOf(t)
	} else {
		schema = s.of(t)
	}
	return map[string]any{
		"required": t != reflect.TypeFor[rotation]() && t != reflect.TypeFor[replaySpec](), // see readMay
		"content":  map[string]any{media: map[string]any{"schema": schema}},
	}
}

func (r *route) responses(s schemas) map[string]any {
	ok := map[string]any{"description": http.StatusText(r.status)}
	if r.result != nil {
		ok["content"] = map[string]any{typeJSON: map[string]any{"schema": s.of(reflect.TypeOf(r.result))}}
	}
	if r.files != nil {
		content := map[string]any{}
		for _, media := range r.files {
			content[media] = map[string]any{"schema": map[string]any{"type": "string", "format": "binary"}}
		}
		ok["content"] = content
	}
	headers := map[string]any{}
	if r.tagged {
		headers["ETag"] = map[string]any{"description": "The record's revision, for If-Match.", "schema": map[string]any{"type": "string"}}
	}
	if r.once {
		headers["Idempotency-Replayed"] = map[string]any{"description": "true: it was done before, by a request with the same Idempotency-Key.", "schema": map[string]any{"type": "string"}}
	}
	if r.status == http.StatusCreated {
		headers["Location"] = map[string]any{"description": "The new record, relative to the request's path.", "schema": map[string]any{"type": "string"}}
	}
	if len(headers) > 0 {
		ok["headers"] = headers
	}
	return map[string]any{
		strconv.Itoa(r.status): ok,
		"default":              map[string]any{"$ref": "#/components/responses/Problem"},
	}
}
