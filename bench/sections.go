// Package bench compares keypurse with the least that the same work can cost
// (the floors) and with what others offer (the peers), as ratios of figures
// taken side by side in one run. Absolute figures belong to a machine; the
// ratios are what keypurse is held to. Run it with "go run ./cmd/bench".
package bench

import (
	"fmt"

	"github.com/keypurse/keypurse/bench/internal/fixture"
	"github.com/keypurse/keypurse/bench/internal/harness"
)

// Who does the work.
const (
	whoKeypurse   = "keypurse"
	whoFloor      = "floor"
	whoNaive      = "one mutex, two maps"
	whoGoLimiter  = "sethvargo/go-limiter"
	whoUlule      = "ulule/limiter"
	whoThrottled  = "throttled"
	whoRate       = "x/time/rate"
	whoHTTPRate   = "go-chi/httprate"
	whoBare       = "bare handler"
	whoUpdate     = "bare db.Update"
	whoUpdateUse  = "bare db.Update, usage too"
	whoProbe      = "probe: one value a commit"
	whoDisk       = "disk: 4 KiB and sync"
	whoBetterAuth = "better-auth on SQLite"
	whoHand       = "BEGIN, 3 FOR UPDATE, 3 UPDATE, COMMIT"
	whoSingle     = "best single statement, usage too"
	whoRow        = "one row updated a charge"
	whoSelect     = "bare prepared SELECT"
)

// The sections.
const (
	secAuthenticate = "authenticate"
	secMemory       = "memory"
	secMiddleware   = "middleware"
	secLoopback     = "loopback"
	secDurable      = "bbolt"
	secBetterAuth   = "better-auth"
	secPostgres     = "postgres"
	secGrowth       = "growth"
)

// The trees that are charged.
var (
	hot    = fixture.Shape{Keys: 10_000, Accounts: 100, Orgs: 1}
	spread = fixture.Shape{Keys: 20_000, Accounts: 2_000, Orgs: 500}
	// served is what requests are served for: as many keys as the least that
	// authentication is measured with.
	served = fixture.Shape{Keys: 1_000, Accounts: 10, Orgs: 1}
	// manyKeys is what growth in organizations is measured with.
	manyKeys = fixture.Shape{Keys: 100_000, Accounts: 10_000, Orgs: 1}
	// orgs64 is what organizations side by side are measured with on Postgres.
	orgs64 = fixture.Shape{Keys: 6_400, Accounts: 640, Orgs: 64}
	// past is what growth in history is measured with, each of its subjects
	// used in every hour.
	past = fixture.Shape{Keys: 20, Accounts: 5, Orgs: 1}
)

// keysShape is a tree of n keys in ten organizations.
func keysShape(n int) fixture.Shape {
	return fixture.Shape{Keys: n, Accounts: max(10, n/100), Orgs: 10}
}

// orgsShape is manyKeys in n organizations.
func orgsShape(n int) fixture.Shape {
	s := manyKeys
	s.Orgs = n
	return s
}

// The names of the works, used by cases and ratios alike.
func workAuthenticate(keys, procs int) string {
	return fmt.Sprintf("%s keys, %s", thousands(keys), plural(procs, "processor"))
}

func workMemory(tree string, callers int) string {
	return fmt.Sprintf("%s, %s", tree, plural(callers, "caller"))
}

func workDurable(callers int) string { return plural(callers, "caller") }

func workPostgres(tree string, callers, processes int) string {
	if processes > 1 {
		return fmt.Sprintf("%s, %d processes of %s", tree, processes, plural(callers/processes, "caller"))
	}
	return fmt.Sprintf("%s, %s", tree, plural(callers, "caller"))
}

func workGrowth(what string, n int) string { return fmt.Sprintf("%s: %s", what, thousands(n)) }

const (
	workMiddleware = "in process, 1,000 keys"
	workLoopback   = "8 keep-alive connections"
	workBetterAuth = "durable, 32 callers"
	workLookup     = "authenticate without a cache, 8 callers"
	treeHot        = "hot organization"
	treeOrgs64     = "64 organizations"
	workOpen       = "open a file of 1,000,000 keys: seconds"
	workPerKey     = "memory of 100,000 keys: bytes a key"

	growAuthKeys    = "authenticate, keys"
	growMemoryKeys  = "charge in memory, keys"
	growMemoryOrgs  = "charge in memory, organizations"
	growMemoryDays  = "charge in memory, days"
	growDurableKeys = "charge on bbolt, keys"
	growDurableOrgs = "charge on bbolt, organizations"
	growDurableDays = "charge on bbolt, days"
)

// What is measured at which sizes.
var (
	authenticateKeys  = []int{1_000, 100_000}
	authenticateProcs = []int{1, 2}
	trees             = []struct {
		name  string
		shape fixture.Shape
	}{{"hot organization", hot}, {"spread", spread}}
	memoryCallers = []int{1, 32}
	growKeys      = [2]int{1_000, 1_000_000}
	growOrgs      = [2]int{1, 10_000}
	growDays      = [2]int{1, 365}
)

// Sections is everything that is measured, in order.
func Sections() []harness.Section {
	return []harness.Section{
		{Name: secAuthenticate, Cases: authenticateCases},
		{Name: secMemory, Cases: memoryCases},
		{Name: secMiddleware, Cases: middlewareCases},
		{Name: secLoopback, Cases: loopbackCases},
		{Name: secDurable, Cases: durableCases},
		{Name: secBetterAuth, Cases: betterAuthCases},
		{Name: secPostgres, Cases: postgresCases},
		{Name: secGrowth, Cases: growthCases},
	}
}

func authenticateCases(harness.Env) (cs []harness.Case) {
	for _, keys := range authenticateKeys {
		for _, procs := range authenticateProcs {
			work := workAuthenticate(keys, procs)
			cs = append(cs, floorAuthenticate(work, keysShape(keys), procs), ourAuthenticate(work, keysShape(keys), procs))
		}
	}
	return cs
}

func memoryCases(harness.Env) (cs []harness.Case) {
	for _, t := range trees {
		for _, callers := range memoryCallers {
			work := workMemory(t.name, callers)
			cs = append(cs, floorCharge(work, t.shape, callers), ourCharge(work, t.shape, callers), naiveCharge(work, t.shape, callers))
			for _, l := range limiters {
				cs = append(cs, peerCharge(l, work, t.shape, callers))
			}
		}
	}
	return cs
}

func middlewareCases(harness.Env) (cs []harness.Case) {
	for _, m := range middlewares {
		cs = append(cs, inProcess(workMiddleware, m.who, served, m.wrap))
	}
	return append(cs, inProcess(workMiddleware, whoKeypurse, served, guarded))
}

func loopbackCases(harness.Env) []harness.Case {
	return []harness.Case{
		loopback(workLoopback, whoBare, served, 8, middlewares[0].wrap),
		loopback(workLoopback, whoKeypurse, served, 8, guarded),
	}
}

func durableCases(harness.Env) []harness.Case {
	return []harness.Case{
		diskSync(workDurable(1)),
		boltUpdate(workDurable(1), whoUpdate, hot, 1, 0, false),
		ourDurable(workDurable(1), hot, 1, 0),
		ourDurable(workDurable(64), hot, 64, 0),
		ourDurable(workDurable(256), hot, 256, 0),
		boltUpdate(workDurable(1), whoUpdateUse, hot, 1, 0, true),
		boltUpdate(workDurable(64), whoUpdate, hot, 64, 0, false),
		boltProbe(workDurable(1), hot, 1),
		boltProbe(workDurable(64), hot, 64),
		boltProbe(workDurable(256), hot, 256),
	}
}

func betterAuthCases(harness.Env) []harness.Case {
	return []harness.Case{
		betterAuth(workBetterAuth, 32, 1_000),
		ourDurable(workBetterAuth, fixture.Shape{Keys: 1_000, Accounts: 10, Orgs: 1}, 32, 0),
	}
}

func postgresCases(harness.Env) []harness.Case {
	return []harness.Case{
		handTransaction(workPostgres(treeHot, 1, 1), hot, 1),
		handSingle(workPostgres(treeHot, 1, 1), hot, 1),
		ourPostgres(workPostgres(treeHot, 1, 1), hot, 1, 1),
		handTransaction(workPostgres(treeHot, 32, 1), hot, 32),
		ourPostgres(workPostgres(treeHot, 32, 1), hot, 32, 1),
		ourPostgres(workPostgres(treeHot, 256, 1), hot, 256, 1),
		handSingle(workPostgres(treeOrgs64, 32, 1), orgs64, 32),
		ourPostgres(workPostgres(treeOrgs64, 32, 1), orgs64, 32, 1),
		handRow(workPostgres(treeHot, 32, 4), hot, 32),
		ourPostgres(workPostgres(treeHot, 256, 4), hot, 256, 4),
		handSelect(workLookup, orgs64, 8),
		ourLookup(workLookup, orgs64, 8),
	}
}

func growthCases(harness.Env) (cs []harness.Case) {
	for i := range 2 {
		keys, orgs, days := growKeys[i], growOrgs[i], growDays[i]
		cs = append(cs,
			floorAuthenticate(workGrowth(growAuthKeys, keys), keysShape(keys), 1),
			ourAuthenticate(workGrowth(growAuthKeys, keys), keysShape(keys), 1),
			floorCharge(workGrowth(growMemoryKeys, keys), keysShape(keys), 1),
			ourCharge(workGrowth(growMemoryKeys, keys), keysShape(keys), 1),
			floorCharge(workGrowth(growMemoryOrgs, orgs), orgsShape(orgs), 1),
			ourCharge(workGrowth(growMemoryOrgs, orgs), orgsShape(orgs), 1),
			floorCharge(workGrowth(growMemoryDays, days), past, 1), // it keeps no history
			ourChargeInHistory(workGrowth(growMemoryDays, days), past, days),
			boltUpdate(workGrowth(growDurableKeys, keys), whoFloor, keysShape(keys), 1, 0, true),
			ourDurable(workGrowth(growDurableKeys, keys), keysShape(keys), 1, 0),
			boltUpdate(workGrowth(growDurableOrgs, orgs), whoFloor, orgsShape(orgs), 1, 0, true),
			ourDurable(workGrowth(growDurableOrgs, orgs), orgsShape(orgs), 1, 0),
			boltUpdate(workGrowth(growDurableDays, days), whoFloor, past, 1, days, true),
			ourDurable(workGrowth(growDurableDays, days), past, 1, days),
		)
	}
	return append(cs, ourMemory(workPerKey, keysShape(100_000)), ourOpen(workOpen, keysShape(1_000_000)))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// thousands writes 1000000 as 1,000,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
