// Package saccount gives a service's customers service accounts: non-human
// identities of an organization that authenticate with API keys only and spend
// credits under limits that reset.
//
//	svc, err := saccount.New(memstore.New(), saccount.Config{Prefix: "acme_live"})
//	org, err := svc.CreateOrg(ctx, "user:alice", saccount.OrgSpec{Name: "Acme"})
//	account, err := svc.CreateAccount(ctx, "user:alice", org.ID, saccount.AccountSpec{
//		Name:   "Production Worker",
//		Limits: saccount.Limits{"": saccount.NewLimit(500*quota.Credit, quota.Period{Unit: quota.Month})},
//	})
//	token, key, err := svc.CreateKey(ctx, "user:alice", org.ID, account.ID, saccount.KeySpec{Name: "Backend"})
//	fmt.Println(token.Reveal()) // shown this once
//
//	caller, err := svc.Authenticate(ctx, token.Reveal(), addr)
//	decision, err := svc.Charge(ctx, caller, saccount.Charge{Amount: quota.Credit / 100})
//
// # The tree
//
// An [Org] has service accounts ([Account]) and people's seats ([Member]); an
// account has keys ([Key]). Each may have limits. A charge goes to the key, its
// account and the organization at once (or to the member and the organization):
// all of them or none. A subject without limits has none of its own, and those
// above it hold. A limit of 0 lets nothing be spent.
//
// Disabling or deleting takes everything below along. When such a call, or a
// rotation without overlap, has returned, nothing of it authenticates in this
// process and nothing is charged in any process on the same store.
//
// # Who may do what
//
// Every management call names its [Actor], who goes into the audit log with
// the change, in the same atomic step. Whether they may is the host's business:
// nothing here asks. Ids of another organization are answered like unknown ones.
//
// # The audit log
//
// Each organization has one: who changed what, when, from where (see
// [WithOrigin]), with the public record before and after. Entries are numbered
// without gaps and chained: each has a mark, HMAC-SHA-256 under a key derived
// from Config.Secrets for the organization, of itself and of the mark before.
// [Service.Verify] names the first entry that was changed, removed, inserted,
// moved, copied from elsewhere or cut from the front, and says in its
// documentation what no such log can show without a [Head] that was kept
// elsewhere. [Service.CutAudit] is retention; [WriteAuditCSV] and
// [WriteAuditJSONL] export.
//
// # Keys that need a hand
//
// [Service.KeysInNeed] lists keys that somebody should look at, and says why.
// An organization's [KeyPolicy] says what that is; [Service.EnforceKeyPolicy]
// disables those that nobody uses, after a warning. [Service.ReportLeak] takes
// a token that was found in public; package leak is its HTTP.
//
// # Errors
//
// Conditions are sentinels (ErrNotFound, ErrExists, ErrConflict, ErrInvalid,
// ErrUnauthenticated, ErrForbidden, ErrRateLimited, ErrClosed); test with
// errors.Is. A refused charge is no error: see [quota.Decision].
//
// # Limits of this package
//
// Rate limits and the throttle of failed attempts count in this process alone.
// Credits do not: they are exact on any number of processes that share a store
// which shares. There is no login for people here, and no HTTP: see package
// middleware.
package saccount
