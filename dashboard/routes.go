package dashboard

import (
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

// apiRoutes are the operations of the API: the one table that the handler, the
// OpenAPI document and the tests go by.
func apiRoutes() []*route {
	all := []*route{
		{method: "GET", path: "orgs/{org}/accounts", id: "listAccounts", about: "List the service accounts of an organization.",
			role: saccount.RoleView, query: append(listParams[:len(listParams):len(listParams)], sortParam), result: page[accountView]{}, status: 200, do: listAccounts},
		{method: "POST", path: "orgs/{org}/accounts", id: "createAccount", about: "Create a service account.",
			role: saccount.RoleManage, body: accountSpec{}, result: accountView{}, status: 201, tagged: true, do: createAccount},
	}
	for _, r := range all {
		r.segments = strings.Split(r.path, "/")
	}
	return all
}
