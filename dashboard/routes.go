package dashboard

import (
	"strings"

	"github.com/keypurse/keypurse/saccount"
)

const (
	view   = saccount.RoleView
	manage = saccount.RoleManage
	admin  = saccount.RoleAdmin
)

var deletedParam = param{name: "deleted", doc: "true: answer a deleted record too", schema: map[string]any{"type": "boolean"}}

// named are the words of a resource's operations: "Account", "Accounts".
type named struct {
	*resource
	path     string // of one record
	one      string // in the operations' names
	view     any
	host     bool          // in the host's partition
	changes  saccount.Role // who may change it
	disables saccount.Role // who may disable, enable and delete it
}

// apiRoutes are the operations of the API: the one table that the handler, the
// OpenAPI document and the tests go by.
func apiRoutes() []*route {
	byName := append(listParams[:len(listParams):len(listParams)], sortParam)
	all := []*route{
		{method: "GET", path: "openapi.json", id: "describe", about: "This document.", role: view, result: map[string]any{}, status: 200, do: describe},
		{method: "GET", path: "whoami", id: "whoAmI", about: "Tell who asks, as the handler knows them.", role: view, result: identity{}, status: 200, do: whoAmI},

		{method: "GET", path: "orgs", id: "listOrgs", about: "List the organizations that you may see.", role: view, query: listParams, result: page[orgView]{}, status: 200, do: listOrgs},
		{method: "POST", path: "orgs", id: "createOrg", about: "Create an organization.", role: admin, host: true, body: orgSpec{}, result: orgView{}, status: 201, once: true, tagged: true, do: createOrg},
		{method: "GET", path: "orgs/{org}/accounts", id: "listAccounts", about: "List the service accounts of an organization.", role: view, query: byName, result: page[accountView]{}, status: 200, do: listAccounts},
		{method: "POST", path: "orgs/{org}/accounts", id: "createAccount", about: "Create a service account.", role: manage, body: accountSpec{}, result: accountView{}, status: 201, once: true, tagged: true, do: createAccount},
		{method: "GET", path: "orgs/{org}/members", id: "listMembers", about: "List the members of an organization.", role: view, query: listParams, result: page[memberView]{}, status: 200, do: listMembers},
		{method: "POST", path: "orgs/{org}/members", id: "createMember", about: "Create a member: a person's seat.", role: manage, body: memberSpec{}, result: memberView{}, status: 201, once: true, tagged: true, do: createMember},
		{method: "GET", path: "orgs/{org}/keys", id: "listKeys", about: "List the keys of an organization.", role: view, query: listParams, result: page[keyView]{}, status: 200, do: listKeys},
		{method: "GET", path: "orgs/{org}/accounts/{id}/keys", id: "listAccountKeys", about: "List the keys of a service account.", role: view, query: byName, result: page[keyView]{}, status: 200, do: listKeys},
		{method: "POST", path: "orgs/{org}/accounts/{id}/keys", id: "createKey", about: "Create a key of a service account. The answer shows its token, once.", role: manage, body: keySpec{}, result: keyMade{}, status: 201, once: true, tagged: true, do: createKey},
		{method: "GET", path: "orgs/{org}/keys-in-need", id: "listKeysInNeed", about: "List the keys that need a hand: unused, expiring, overdue for rotation, without limit, and the like. A page is found among 1,000 keys: it may hold fewer than limit, or none, and next says whether there are more to look at.", role: view, query: needParams, result: page[needyKey]{}, status: 200, do: listKeysInNeed},
		{method: "GET", path: "orgs/{org}/key-policy", id: "getKeyPolicy", about: "Read what an organization asks of its keys.", role: view, result: keyPolicyView{}, status: 200, tagged: true, do: readKeyPolicy},
		{method: "PUT", path: "orgs/{org}/key-policy", id: "setKeyPolicy", about: "Set the whole of what an organization asks of its keys anew.", role: manage, body: keyPolicySpec{}, result: keyPolicyView{}, status: 200, match: matchMay, tagged: true, do: setKeyPolicy},
		{method: "POST", path: "leaks", id: "reportLeak", about: "Hand in a token that was found in public, of whatever organization: if it is real, it is disabled at once. The answer is the same where it is not.", role: manage, body: leakReport{}, status: 204, again: true, do: reportLeak},
		{method: "POST", path: "orgs/{org}/keys/{id}/rotate", id: "rotateKey", about: "Give a key a new secret. The answer shows its token, once.", role: manage, body: rotation{}, result: keyMade{}, status: 200, match: matchMay, once: true, tagged: true, do: rotateKey},
		{method: "POST", path: "orgs/{org}/keys/{id}/cancel-rotation", id: "cancelRotation", about: "End a key's new secret at once and give the old one its life back.", role: manage, result: keyView{}, status: 200, match: matchMay, once: true, tagged: true, do: cancelRotation},
	}
	for _, r := range []named{
		{orgs, "orgs/{org}", "Org", orgView{}, false, manage, admin},
		{accounts, "orgs/{org}/accounts/{id}", "Account", accountView{}, false, manage, manage},
		{members, "orgs/{org}/members/{id}", "Member", memberView{}, false, manage, manage},
		{keys, "orgs/{org}/keys/{id}", "Key", keyView{}, false, manage, manage},
		{managementKeys, "orgs/{org}/management-keys/{id}", "ManagementKey", managementKeyView{}, false, manage, manage},
		{managementKeys, "management-keys/{id}", "HostManagementKey", managementKeyView{}, true, manage, manage},
	} {
		all = append(all, r.routes()...)
	}
	for _, p := range []struct {
		path, one string
		host      bool
	}{{"orgs/{org}/management-keys", "ManagementKey", false}, {"management-keys", "HostManagementKey", true}} {
		all = append(all,
			&route{method: "GET", path: p.path, id: "list" + p.one + "s", about: "List management keys.", role: manage, host: p.host, query: listParams, result: page[managementKeyView]{}, status: 200, do: listManagementKeys},
			&route{method: "POST", path: p.path, id: "create" + p.one, about: "Create a management key. The answer shows its token, once.", role: manage, host: p.host, body: managementKeySpec{}, result: managementKeyMade{}, status: 201, once: true, tagged: true, do: createManagementKey},
			&route{method: "POST", path: p.path + "/{id}/rotate", id: "rotate" + p.one, about: "Give a management key a new secret. The answer shows its token, once.", role: manage, host: p.host, body: rotation{}, result: managementKeyMade{}, status: 200, match: matchMay, once: true, tagged: true, do: rotateManagementKey},
		)
	}
	all = append(all, recipientRoutes()...)
	all = append(all, historyRoutes()...)
	all = append(all, exportRoutes()...)
	all = append(all, spendRoutes()...)
	for _, r := range all {
		r.segments = strings.Split(r.path, "/")
	}
	return all
}

// routes are what every resource knows.
func (n named) routes() []*route {
	what := "the " + n.word
	out := []*route{
		{method: "GET", path: n.path, id: "get" + n.one, about: "Read " + what + ".", role: view, query: []param{deletedParam}, result: n.view, status: 200, tagged: true, do: n.read},
		{method: "PATCH", path: n.path, id: "update" + n.one, about: "Change " + what + " by a JSON merge patch (RFC 7396): what is left out is unchanged, null clears.", role: n.changes, result: n.view, status: 200, match: matchNeeded, tagged: true, do: n.patch, body: editOf(n.resource)},
		{method: "DELETE", path: n.path, id: "delete" + n.one, about: "Delete " + what + " with everything below, for good. History stays.", role: n.disables, status: 204, match: matchMay, do: n.delete},
		{method: "POST", path: n.path + "/disable", id: "disable" + n.one, about: "Refuse " + what + " from now on.", role: n.disables, result: n.view, status: 200, match: matchMay, once: true, tagged: true, do: n.act(n.disable)},
		{method: "POST", path: n.path + "/enable", id: "enable" + n.one, about: "Let " + what + " in again.", role: n.disables, result: n.view, status: 200, match: matchMay, once: true, tagged: true, do: n.act(n.enable)},
	}
	if n.kind != saccount.KindManagementKey {
		limits := n.changes
		if n.kind == saccount.KindOrg {
			limits = admin
		}
		limit := n.path + "/limits/{limit}"
		out = append(out,
			&route{method: "GET", path: n.path + "/status", id: "get" + n.one + "Status", about: "Tell how the limits of " + what + " stand in their current windows.", role: view, result: limitStatuses{}, status: 200, do: n.status},
			&route{method: "GET", path: n.path + "/report", id: "get" + n.one + "Report", about: "Sum up a period of " + what + ", beside the period before.", role: view, query: reportParams, result: reportView{}, status: 200, do: n.report},
			&route{method: "GET", path: n.path + "/suggested-limit", id: "suggest" + n.one + "Limit", about: "Suggest a limit of " + what + " from what it spent.", role: view, query: suggestParams, result: suggestion{}, status: 200, do: n.suggest},
			&route{method: "PUT", path: limit, id: "set" + n.one + "Limit", about: "Make a limit of " + what + ", or set the whole of one anew.", role: limits, body: limitSpec{}, result: n.view, status: 200, match: matchMay, tagged: true, do: n.setLimit},
			&route{method: "DELETE", path: limit, id: "remove" + n.one + "Limit", about: "Remove a limit of " + what + ".", role: limits, result: n.view, status: 200, match: matchMay, tagged: true, do: n.removeLimit},
			&route{method: "POST", path: limit + "/top-ups", id: "topUp" + n.one, about: "Add credits to the current window of a limit, once.", role: admin, body: topUpSpec{}, result: n.view, status: 200, match: matchMay, once: true, tagged: true, do: n.topUp},
			&route{method: "POST", path: limit + "/raise", id: "raise" + n.one, about: "Let a limit stand higher until an instant.", role: admin, body: raiseSpec{}, result: n.view, status: 200, match: matchMay, once: true, tagged: true, do: n.raise},
			&route{method: "DELETE", path: limit + "/raise", id: "end" + n.one + "Raise", about: "End a raise now.", role: admin, result: n.view, status: 200, match: matchMay, tagged: true, do: n.endRaise},
		)
	}
	for _, r := range out {
		r.host = n.host
		if n.kind == saccount.KindManagementKey && r.role < manage {
			r.role = manage // who may use them may see them
		}
	}
	return out
}

// editOf is what a merge patch of the resource changes.
func editOf(k *resource) any {
	switch k.kind {
	case saccount.KindOrg:
		return orgEdit{}
	case saccount.KindAccount:
		return accountSpec{}
	case saccount.KindMember:
		return memberEdit{}
	case saccount.KindKey:
		return keySpec{}
	}
	return managementKeyEdit{}
}

func historyRoutes() []*route {
	return []*route{
		{method: "GET", path: "orgs/{org}/usage", id: "getUsage", about: "Read what was spent and asked for over time.", role: view, query: usageParams, result: usageView{}, status: 200, do: readUsage},
		{method: "GET", path: "orgs/{org}/usage/totals", id: "getUsageTotals", about: "Sum what each subject spent and asked for.", role: view, query: totalsParams, result: totalsView{}, status: 200, do: readTotals},
		{method: "GET", path: "orgs/{org}/audit", id: "listAudit", about: "List an organization's audit log. A page is found among 10,000 entries: it may hold fewer than limit, or none, and next says whether the log goes on.", role: view, query: auditParams, result: page[auditEntry]{}, status: 200, do: readAudit},
		{method: "GET", path: "orgs/{org}/audit/verification", id: "verifyAudit", about: "Check an organization's audit log against its marks, in steps, and name the first place where it is not what was written.", role: view, query: verifyParams, result: auditVerification{}, status: 200, do: verifyAudit},
		{method: "GET", path: "audit/verification", id: "verifyHostAudit", about: "Check the host's own audit log against its marks.", role: view, host: true, query: verifyParams, result: auditVerification{}, status: 200, do: verifyAudit},
		{method: "GET", path: "audit", id: "listHostAudit", about: "List the host's own audit log: its management keys.", role: view, host: true, query: auditParams, result: page[auditEntry]{}, status: 200, do: readAudit},
	}
}

func spendRoutes() []*route {
	return []*route{
		{method: "POST", path: "verify", id: "verify", about: "Tell who presents a token. Nothing is charged.", role: admin, body: verification{}, result: verified{}, status: 200, again: true, do: of(verify)},
		{method: "POST", path: "charge", id: "charge", about: "Charge credits to whoever presents a token, or to a member: to every limit above them, or to none.", role: admin, body: charge{}, result: decision{}, status: 200, do: of(chargeCredits)},
		{method: "POST", path: "reserve", id: "reserve", about: "Hold credits until they are committed or released, or until their time is over.", role: admin, body: reservation{}, result: decision{}, status: 200, do: of(reserveCredits)},
		{method: "POST", path: "orgs/{org}/commit", id: "commit", about: "Spend a reservation and free the rest. The same again gives the first result.", role: admin, body: commit{}, result: decision{}, status: 200, do: of(commitCredits)},
		{method: "POST", path: "orgs/{org}/release", id: "release", about: "Free a reservation: nothing is charged.", role: admin, body: settlement{}, result: decision{}, status: 200, do: of(releaseCredits)},
		{method: "POST", path: "orgs/{org}/renew", id: "renew", about: "Keep a reservation for longer.", role: admin, body: renewal{}, result: decision{}, status: 200, do: of(renewCredits)},
		{method: "POST", path: "orgs/{org}/refund", id: "refund", about: "Give credits of a charge or commit back, in the window that they were taken from.", role: admin, body: refund{}, result: decision{}, status: 200, do: of(refundCredits)},
	}
}
