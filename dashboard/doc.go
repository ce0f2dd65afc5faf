// Package dashboard is the management of service accounts over HTTP: one
// http.Handler that a host mounts in its own service, behind its own login.
//
//	h, err := dashboard.New(svc, dashboard.Config{Authorize: func(r *http.Request) (dashboard.Caller, error) {
//		user, ok := session(r) // the host's own login
//		if !ok {
//			return dashboard.Caller{}, saccount.ErrUnauthenticated
//		}
//		return dashboard.Caller{Actor: saccount.Actor("user:" + user.Name), Org: user.Org, Role: saccount.RoleManage}, nil
//	}})
//	mux.Handle("/keys/", http.StripPrefix("/keys", h))
//
// # Who gets in
//
// Config.Authorize says who asks, for which organization and with which role,
// or refuses; there is no handler without it. A [Caller] of one organization
// sees that one only: ids of others are answered like unknown ones.
//
//	view     sees
//	manage   does everything to its organization's accounts, members and keys, to their limits, to the
//	         policy that keys are held to, and to who hears of its alerts; hands in leaked tokens, reads
//	         webhooks' secrets and recipients' whole addresses
//	admin    the host's own staff: also the organization's limits and zone, top-ups, raises and refunds,
//	         and verify, charge, reserve, commit, renew and release
//
// A service account never gets in, to no page and no API, whatever Authorize
// says: a request that carries anything shaped like a token of this Service is
// refused before Authorize is asked, and so is one whose context carries a key
// as its Principal.
//
// # The pages
//
// The mount path itself is for people: an organization's accounts, keys, limits,
// members, alerts and who hears of them, settings and use, in the zone of the
// organization. They work without
// scripts and without anything from elsewhere. A form counts once, however often
// it is sent, and keeps what was typed where it is refused. A token is in the
// answer to the form that made it and nowhere else: load that page again and it
// is gone; so is a webhook's secret. Management keys open no page. Forms are
// taken from the handler's own origin alone, which a proxy must leave in the
// Host that it passes on, or Config.TrustedOrigins name.
//
// The overview reads the same few things however large the organization is: it
// looks for keys that need a hand among the first thousand, ranks accounts where
// there are a hundred at most, and names the page that looks further. The report
// ranks more than that only where it is asked: for that it reads the usage of
// everybody who spent anything in its period. The audit trail
// on the page of an account or key is looked for in the newest 500 entries, and
// the audit log is verified 100,000 entries at a time.
//
// # The API
//
// JSON under api/v1 of wherever the handler is mounted, described by the
// OpenAPI 3.1 document at api/v1/openapi.json. It takes management keys too
// (saccount.ManagementKey), as Authorization: Bearer; those are all that a
// program needs and open no page.
//
// Amounts of credits are decimal strings, times RFC 3339 in UTC. Lists have
// pages: pass the next of one as the cursor of the request after. Answers have
// an ETag made of the record's revision. PATCH takes a JSON merge patch (RFC
// 7396): what is left out is unchanged, null clears. It wants If-Match, with
// that ETag or * for whatever is there: 428 without it, 412 where the record
// has moved on. Other changes heed an If-Match and need none. Every POST takes
// an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): what is sent
// again under the same value is done once and answered with the record as it
// is by then, marked Idempotency-Replayed: true. A token is shown by the first
// answer alone. What is wrong is said as problem details (RFC 9457), with a
// pointer to each field.
//
// What may be long comes in parts that are bounded: a page of the audit log is
// found among 10,000 entries and one of the keys that need a hand among 1,000
// keys, so that it may hold fewer than were asked for while next says that there
// are more; the audit log is verified in steps, each going on from the head of
// the one before. Exports are streamed, as CSV or JSON lines; one that breaks off
// ends with a broken connection, and never looks whole. A report reads the usage
// of everybody who spent anything in its period; ask for top=0 where the ranking
// is not needed.
//
// A token that was found in public is handed in at leaks, whosever it is. The
// answer is 204, real or not, and to who is not of the host's staff comes after
// half a second or a multiple of it. Strangers, who have no role here, have
// package leak.
//
// # Mounting
//
// Under any path, with http.StripPrefix or without it where a http.ServeMux
// pattern says the path; elsewhere strip it. Behind proxies name them in
// Config.TrustedProxies. Every change is checked with
// http.CrossOriginProtection.
package dashboard
