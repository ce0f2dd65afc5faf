package dashboard

import (
	"io"
	"net/http"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/usage"
)

var exportUsageParams = append(usageParams[:len(usageParams)-1:len(usageParams)-1],
	param{name: "kind", doc: "instead of subjects: every account, member or key that spent or asked for anything, in no order", schema: map[string]any{"type": "string", "enum": []string{quota.KindAccount, quota.KindMember, quota.KindKey}}},
	formatParam,
)

// exportUsage answers with a series for each subject, streamed, with names.
func exportUsage(c *call) (*reply, error) {
	q, err := c.values()
	if err != nil {
		return nil, err
	}
	u, err := c.usageQuery(q)
	if err != nil {
		return nil, err
	}
	u.GroupBySubject = true
	switch kind := q.Get("kind"); kind {
	case "":
	case quota.KindAccount, quota.KindMember, quota.KindKey:
		if q.Has("subject") {
			return nil, badParam("kind", "give subjects or a kind, not both")
		}
		u.Kind, u.Subjects = kind, nil
	default:
		return nil, badParam("kind", "give account, member or key")
	}
	format, media, err := formatOf(q.Get("format"))
	if err != nil {
		return nil, err
	}
	return &reply{file: c.usageFile(u, format, media)}, nil
}

func (c *call) usageFile(q usage.Query, format saccount.Format, media string) *file {
	return &file{media, "usage." + string(format), func(w io.Writer) error {
		return badQuery(c.svc.ExportUsage(c.ctx, w, format, q, usage.Export{}))
	}}
}

func exportRoutes() []*route {
	return []*route{
		{method: http.MethodGet, path: "orgs/{org}/usage/export", id: "exportUsage", about: "Export what was spent and asked for over time, one row a point, streamed.", role: view, query: exportUsageParams, files: fileTypes, status: 200, do: exportUsage},
		{method: http.MethodGet, path: "orgs/{org}/audit/export", id: "exportAudit", about: "Export an organization's audit log, streamed.", role: view, query: exportAuditParams, files: fileTypes, status: 200, do: exportAudit},
		{method: http.MethodGet, path: "audit/export", id: "exportHostAudit", about: "Export the host's own audit log, streamed.", role: view, host: true, query: exportAuditParams, files: fileTypes, status: 200, do: exportAudit},
	}
}
