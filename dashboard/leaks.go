package dashboard

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/keypurse/keypurse/internal/web"
	"github.com/keypurse/keypurse/saccount"
)

// leakReport hands in a token that was found in public.
type leakReport struct {
	Token  string `json:"token" doc:"as it was found, up to 1024 bytes" schema:"minLength=1 maxLength=1024"`
	Source string `json:"source,omitempty" doc:"who found it; for the audit log of whose it is, up to 200 characters" schema:"maxLength=200"`
	URL    string `json:"url,omitempty" doc:"where; for the audit log, up to 2048 characters" schema:"maxLength=2048"`
}

const (
	leakPace = 500 * time.Millisecond // what the time of an answer to a stranger is a multiple of
	leakTime = 30 * time.Second
)

// reportLeak takes a token of whatever organization: whoever has it could use
// it, and may have it ended. What became of it is not told: to who is not of
// the host's staff not even by the time that it takes. The role manage, since it
// is a change; who found a token and has no role has package leak.
func reportLeak(c *call) (*reply, error) {
	begun := time.Now()
	var in leakReport
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var errs []fieldError
	for _, f := range []struct {
		name, value string
		most        int
	}{{"token", in.Token, 1024}, {"source", in.Source, 200}, {"url", in.URL, 2048}} {
		if len(f.value) > 4*f.most || utf8.RuneCountInString(f.value) > f.most {
			errs = append(errs, fieldError{Pointer: "#/" + f.name, Detail: "it is too long"})
		}
	}
	if in.Token == "" {
		errs = append(errs, fieldError{Pointer: "#/token", Detail: "give the token"})
	}
	if errs != nil {
		return nil, badFields(errs...)
	}
	if in.Source == "" {
		in.Source = "a report to the API"
	}
	// What was read is worked on also where the caller has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), leakTime)
	defer cancel()
	got, err := c.svc.ReportLeak(ctx, saccount.Leak{Token: in.Token, Source: in.Source, URL: in.URL})
	if got.Real {
		c.cfg.Logger.WarnContext(ctx, "keypurse: a token was reported as leaked", "actor", string(c.caller.Actor), "org", got.Org, "subject", string(got.Subject), "disabled", got.Disabled)
	}
	if !c.caller.Host {
		web.Pace(c.ctx, begun, leakPace)
	}
	if err != nil {
		return nil, err
	}
	return &reply{}, nil
}
