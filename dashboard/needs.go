package dashboard

import (
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// needyKey is a key that needs a hand.
type needyKey struct {
	Key     keyView  `json:"key"`
	Account string   `json:"account_name" doc:"the name of its service account"`
	Needs   []string `json:"needs" doc:"why: see the parameter need"`
	Advice  []string `json:"advice" doc:"what to do about each, for a person"`
}

// needName is a need as a program reads it: "never_used".
func needName(n saccount.Need) string { return strings.ReplaceAll(string(n), " ", "_") }

// needOf is the need of a name; empty where there is none.
func needOf(name string) saccount.Need {
	for _, n := range saccount.Needs() {
		if needName(n) == name {
			return n
		}
	}
	return ""
}

func needNames() (out []string) {
	for _, n := range saccount.Needs() {
		out = append(out, needName(n))
	}
	return out
}

var needParams = []param{
	listParams[0],
	listParams[1],
	{name: "need", doc: "why; with any of them where it is repeated; without it, all", repeated: true, schema: map[string]any{"type": "string", "enum": needNames()}},
	{name: "account", doc: "the id of the service account; without it, the keys of all", schema: text},
}

func listKeysInNeed(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	f := saccount.NeedFilter{Account: q.Get("account")}
	if f.Limit, err = pageSize(q); err != nil {
		return nil, err
	}
	if f.Cursor, err = openCursor(q.Get("cursor"), false); err != nil {
		return nil, err
	}
	for _, s := range q["need"] {
		n := needOf(s)
		if n == "" {
			return nil, badParam("need", "give "+strings.Join(needNames(), ", "))
		}
		f.Needs = append(f.Needs, n)
	}
	p, err := c.svc.KeysInNeed(c.ctx, c.org(), f)
	if err != nil {
		return nil, badQuery(err)
	}
	out := page[needyKey]{Items: make([]needyKey, 0, len(p.Items)), Next: sealCursor(p.Next, false)}
	for _, k := range p.Items {
		x := needyKey{Key: viewKey(k.Key), Account: k.Account, Advice: k.Advice}
		for _, n := range k.Needs {
			x.Needs = append(x.Needs, needName(n))
		}
		out.Items = append(out.Items, x)
	}
	return &reply{body: out}, nil
}
