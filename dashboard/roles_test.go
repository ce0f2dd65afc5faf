package dashboard_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keypurse/keypurse/internal/apiworld"
	"github.com/keypurse/keypurse/saccount"
)

// need is the least role of each operation, said a second time: an operation
// that is not here fails the test, and so does one that was made easier to reach.
var need = map[string]string{
	"describe": "view", "whoAmI": "view", "listOrgs": "view",
	"listAccounts": "view", "listMembers": "view", "listKeys": "view", "listAccountKeys": "view",
	"getOrg": "view", "getAccount": "view", "getMember": "view", "getKey": "view",
	"getOrgStatus": "view", "getAccountStatus": "view", "getMemberStatus": "view", "getKeyStatus": "view",
	"getUsage": "view", "getUsageTotals": "view", "exportUsage": "view", "listAudit": "view", "verifyAudit": "view", "exportAudit": "view",
	"getOrgReport": "view", "getAccountReport": "view", "getMemberReport": "view", "getKeyReport": "view",
	"suggestOrgLimit": "view", "suggestAccountLimit": "view", "suggestMemberLimit": "view", "suggestKeyLimit": "view",
	"listKeysInNeed": "view", "getKeyPolicy": "view",

	"createAccount": "manage", "updateAccount": "manage", "deleteAccount": "manage", "disableAccount": "manage", "enableAccount": "manage",
	"setAccountLimit": "manage", "removeAccountLimit": "manage",
	"createMember": "manage", "updateMember": "manage", "deleteMember": "manage", "disableMember": "manage", "enableMember": "manage",
	"setMemberLimit": "manage", "removeMemberLimit": "manage",
	"createKey": "manage", "updateKey": "manage", "deleteKey": "manage", "disableKey": "manage", "enableKey": "manage",
	"setKeyLimit": "manage", "removeKeyLimit": "manage", "rotateKey": "manage", "cancelRotation": "manage",
	"listManagementKeys": "manage", "getManagementKey": "manage", "createManagementKey": "manage", "updateManagementKey": "manage",
	"deleteManagementKey": "manage", "disableManagementKey": "manage", "enableManagementKey": "manage", "rotateManagementKey": "manage",
	"setKeyPolicy": "manage", "reportLeak": "manage",
	"updateOrg":  "manage", // its name, labels and thresholds
	"listAlerts": "view", "listRecipients": "view", "getRecipient": "view", "listRecipientDeliveries": "view",
	"createRecipient": "manage", "updateRecipient": "manage", "deleteRecipient": "manage", "disableRecipient": "manage", "enableRecipient": "manage",
	"getRecipientSecrets": "manage", "rotateRecipientSecret": "manage", "testRecipient": "manage", "replayRecipient": "manage",

	"disableOrg": "admin", "enableOrg": "admin", "deleteOrg": "admin", "setOrgLimit": "admin", "removeOrgLimit": "admin",
	"topUpOrg": "admin", "topUpAccount": "admin", "topUpMember": "admin", "topUpKey": "admin",
	"raiseOrg": "admin", "raiseAccount": "admin", "raiseMember": "admin", "raiseKey": "admin",
	"endOrgRaise": "admin", "endAccountRaise": "admin", "endMemberRaise": "admin", "endKeyRaise": "admin",
	"verify": "admin", "charge": "admin", "reserve": "admin", "commit": "admin", "release": "admin", "renew": "admin", "refund": "admin",
}

// needOfHost is that of operations which the host's own staff alone may use.
var needOfHost = map[string]string{
	"createOrg": "admin", "listHostAudit": "view", "verifyHostAudit": "view", "exportHostAudit": "view",
	"listHostManagementKeys": "manage", "getHostManagementKey": "manage", "createHostManagementKey": "manage", "updateHostManagementKey": "manage",
	"deleteHostManagementKey": "manage", "disableHostManagementKey": "manage", "enableHostManagementKey": "manage", "rotateHostManagementKey": "manage",
}

var ranks = []string{"view", "manage", "admin"}

func rank(role string) int { return slices.Index(ranks, role) }

// Every operation, by every role, for the caller's own organization, another
// and the host.
func TestWhoMayDoWhat(t *testing.T) {
	ops := newWorld(t).operations()
	require.Len(t, ops, len(need)+len(needOfHost), "each operation has its role in the test")
	allowed, refused, foreign := 0, 0, 0
	var w *world
	// send sends to a world in which nothing was changed yet.
	send := func(by who, op apiworld.Operation, token func() string) answer {
		if w == nil {
			w = newWorld(t)
		}
		var headers []string
		if token != nil {
			headers = []string{"Authorization", "Bearer " + token()}
		}
		a := w.send(by, op, w.Acme, headers...)
		if op.Method != "GET" && a.Code < 300 {
			w = nil
		}
		return a
	}
	for _, op := range ops {
		least, ofHost := need[op.ID], false
		if r, ok := needOfHost[op.ID]; ok {
			least, ofHost = r, true
		}
		require.NotEmpty(t, least, op.ID)
		for _, role := range ranks {
			for _, home := range []string{"acme", "globex", "*"} {
				by := who(role + " " + home)
				a := send(by, op, nil)
				mine := home == "acme" || home == "*" || !strings.Contains(op.Path, "{org}")
				switch {
				case !mine:
					foreign++
					assert.Equal(t, 404, a.Code, "%s by %s: %s", op.ID, by, a.Body)
				case rank(role) < rank(least) || ofHost && home != "*":
					refused++
					assert.Equal(t, 403, a.Code, "%s by %s: %s", op.ID, by, a.Body)
				case strings.Contains(op.ID, "HostManagementKey") && role != "admin" && op.Method != "GET" && op.ID != "createHostManagementKey":
					refused++ // the key in the world has the role admin, which is above theirs
					assert.Equal(t, 403, a.Code, "%s by %s: %s", op.ID, by, a.Body)
				default:
					allowed++
					assert.Less(t, a.Code, 300, "%s by %s: %s", op.ID, by, a.Body)
				}
			}
		}
		assert.Equal(t, 401, send("", op, nil).Code, op.ID)
		assert.Equal(t, 403, send("root acme", op, nil).Code, op.ID)
		// The same by a management key.
		for _, x := range []struct {
			token func() string
			rank  int
			host  bool
		}{{func() string { return w.Acme.ManageToken }, 1, false}, {func() string { return w.HostToken }, 2, true}} {
			a := send("", op, x.token)
			if x.rank < rank(least) || ofHost && !x.host {
				assert.Equal(t, 403, a.Code, "%s: %s", op.ID, a.Body)
			} else {
				assert.Less(t, a.Code, 300, "%s: %s", op.ID, a.Body)
			}
		}
	}
	t.Logf("%d operations; %d allowed, %d refused by role, %d of another organization", len(ops), allowed, refused, foreign)
}

// Fields of an organization that are money to the host.
func TestOrganizationsLimitAndZone(t *testing.T) {
	k := newKit(t)
	for body, money := range map[string]bool{
		`{"name":"New"}`: false, `{"labels":{"a":"b"}}`: false, `{"thresholds":["90%"]}`: false, `{"zone":"Europe/Berlin"}`: true, `{"limits":{"credits":{"max":"1"}}}`: true,
	} {
		a := k.do(manager, "PATCH", "orgs/acme", body, "If-Match", "*")
		if money {
			assert.Equal(t, 403, a.Code, body)
		} else {
			a.ok(200)
		}
		k.do(admin, "PATCH", "orgs/acme", body, "If-Match", "*").ok(200)
	}
}

// Nobody makes or takes over a management key above their own role.
func TestManagementKeysDoNotRise(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, 403, w.do(manager, "POST", "orgs/acme/management-keys", `{"name":"Up","role":"admin"}`).Code)
	k := w.do(admin, "POST", "orgs/acme/management-keys", `{"name":"Up","role":"admin"}`).ok(201)
	path := "orgs/acme/management-keys/" + k["id"].(string)
	for _, op := range []struct{ method, path, body string }{
		{"POST", path + "/rotate", ""}, {"POST", path + "/disable", ""}, {"POST", path + "/enable", ""}, {"DELETE", path, ""}, {"PATCH", path, `{"name":"Mine"}`},
	} {
		assert.Equal(t, 403, w.do(manager, op.method, op.path, op.body, "If-Match", "*").Code, op.method+" "+op.path)
	}
	w.do(manager, "GET", path, "").ok(200)
	// What it may do, it may do by its token alone, wherever it is sent.
	bearer := []string{"Authorization", "Bearer " + k["token"].(string)}
	assert.Equal(t, map[string]any{"actor": "management_key:" + k["id"].(string), "org": "acme", "role": "admin"}, w.do("", "GET", "whoami", "", bearer...).ok(200))
	w.do("", "PUT", "orgs/acme/limits/credits", `{"max":"9"}`, bearer...).ok(200)
	log, err := w.Service.Audit(t.Context(), "acme", saccount.AuditFilter{Newest: true, Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, saccount.Actor("management_key:"+k["id"].(string)), log.Items[0].Actor)
	assert.Equal(t, "192.0.2.1", log.Items[0].Addr, "and where the call came from")
	w.do(admin, "DELETE", path, "").ok(204)
	a := w.do("", "GET", "whoami", "", bearer...)
	assert.Equal(t, 401, a.Code)
	assert.Equal(t, "invalid_token", a.code())
	assert.Contains(t, a.Header().Get("WWW-Authenticate"), `error="invalid_token"`)
}
