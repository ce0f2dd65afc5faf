// Package bench compares keypurse with the least that the same work can cost
// (the floors) and with what others offer (the peers), as ratios of figures
// taken side by side in one run. Absolute figures belong to a machine; the
// ratios are what keypurse is held to. Run it with "go run ./cmd/bench".
package bench

import (
	"fmt"
	"slices"

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
	whoSelect     = "bare prepared SELECT of one row"
	whoSelectAll  = "bare prepared SELECT of the same rows"
	whoLeases     = "keypurse, leases"
	whoWatched    = "keypurse, watched"
	whoUnwatched  = "keypurse, without thresholds or Watch"
	whoBetterPG   = "better-auth on Postgres"
	whoFlexible   = "rate-limiter-flexible on Postgres, one level"
	whoRedis      = "Redis, appendfsync always, Lua over three levels"
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
	secRedis        = "redis"
	secWatching     = "watching"
	secDashboard    = "dashboard"
	secLarge        = "large"
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
	// busy is a hot organization whose keys are all in constant use: what leases
	// are for. A key that is charged less than a few times a second takes none.
	busy = fixture.Shape{Keys: 32, Accounts: 4, Orgs: 1}
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

// What the large section asks of its two databases.
const (
	askAuthenticate = "authenticate without a cache, 8 callers"
	askCharge       = "charge, 32 callers"
	askUsage        = "an account's usage of the last week, 4 callers"
)

func workTree(ask string, keys int) string { return fmt.Sprintf("%s: %s keys", ask, thousands(keys)) }

// The names of the works, used by cases and ratios alike.
func workAuthenticate(keys, procs int) string {
	return fmt.Sprintf("%s keys, %s", thousands(keys), plural(procs, "processor"))
}

func workMemory(tree string, callers int) string {
	return fmt.Sprintf("%s, %s", tree, plural(callers, "caller"))
}

func workDurable(callers int) string { return plural(callers, "caller") }

// workOneProcessor is of processes that have a processor each, where there are
// enough: what one more adds is seen only where one does not use all.
func workOneProcessor(callers, processes int) string {
	return workPostgres(treeBusy, callers, processes) + ", GOMAXPROCS=1"
}

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
	treeBusy       = "hot organization, 32 keys"
	treeOrgs64     = "64 organizations"
	workWrites     = "hot organization, 32 keys, 4 processes of 8 callers: transactions that write, a charge"
	workOpen       = "open a file of 1,000,000 keys: seconds"
	groupQueries   = "queries"
	bloatWork      = "10 minutes of load, 64 callers, hot organization"
	workBloatSize  = bloatWork + ": size, of the same rows freshly written"
	workBloatDead  = bloatWork + ": dead rows, of living ones"
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
		{Name: secRedis, Full: true, Cases: redisCases},
		{Name: secWatching, Cases: watchingCases},
		{Name: secDashboard, Full: true, Cases: dashboardCases},
		{Name: secLarge, Full: true, Cases: largeCases},
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
	pg := newCluster()
	hot1, hot32, hot256 := workPostgres(treeHot, 1, 1), workPostgres(treeHot, 32, 1), workPostgres(treeHot, 256, 1)
	spread32 := workPostgres(treeOrgs64, 32, 1)
	return []harness.Case{
		handTransaction(pg, hot1, hot, 1),
		handSingle(pg, hot1, hot, 1),
		ourPostgres(pg, hot1, hot, 1),
		handTransaction(pg, hot32, hot, 32),
		ourPostgres(pg, hot32, hot, 32),
		nodeOnPostgres(pg, hot32, whoBetterPG, "better-auth-pg", 32, 1_000),
		nodeOnPostgres(pg, hot32, whoFlexible, "limiter-pg", 32, 1_000),
		ourPostgres(pg, hot256, hot, 256),
		handSingle(pg, spread32, orgs64, 32),
		ourPostgres(pg, spread32, orgs64, 32),
		handRow(pg, workPostgres(treeHot, 32, 4), hot, 32, 4),
		handRow(pg, workPostgres(treeHot, 256, 4), hot, 256, 4),
		ourProcesses(pg, workPostgres(treeHot, 256, 4), hot, 256, 4),
		ourLeases(pg, workPostgres(treeBusy, 32, 1), busy, 32, 1),
		ourLeases(pg, workPostgres(treeBusy, 32, 4), busy, 32, 4),
		leasesOf(pg, workOneProcessor(8, 1), busy, 8, 1),
		leasesOf(pg, workOneProcessor(32, 4), busy, 32, 4),
		leaseWrites(pg, workWrites, busy, 32, 4),
		ourLeases(pg, hot32, hot, 32, 1),
		handSelect(pg, workLookup, orgs64, 8),
		handLookup(pg, workLookup, orgs64, 8),
		ourLookup(pg, workLookup, orgs64, 8),
	}
}

func redisCases(harness.Env) (cs []harness.Case) {
	pg := newCluster()
	for _, callers := range []int{32, 256} {
		work := workPostgres(treeHot, callers, 1)
		cs = append(cs, redisCharge(work, hot, callers), ourPostgres(pg, work, hot, callers))
	}
	return cs
}

func watchingCases(harness.Env) (cs []harness.Case) {
	pg := newCluster()
	for _, p := range watchedStores {
		for _, watched := range []bool{false, true} {
			cs = append(cs, ourWatched(pg, p, busy, watched))
		}
	}
	return cs
}

func dashboardCases(env harness.Env) (cs []harness.Case) {
	pg := newCluster()
	for _, p := range boards {
		b := newBoard(env, pg, p)
		for _, ask := range slices.Concat(dashboardAsks, longAsks) {
			cs = append(cs, looked(ask, p, b))
		}
	}
	return cs
}

func largeCases(env harness.Env) (cs []harness.Case) {
	pg := newCluster()
	days, large := year, cut(env, largeTree)
	if env.Quick {
		days = 2 * week
	}
	for _, t := range []struct {
		keys int
		tree *lazy[*tree]
	}{
		{emptyTree.Keys, newTree(pg, cut(env, emptyTree), week)},
		{largeTree.Keys, newTree(pg, large, days)},
	} {
		cs = append(cs,
			onTree(workTree(askAuthenticate, t.keys), t.tree, 8, treeAuthenticate),
			onTree(workTree(askCharge, t.keys), t.tree, 32, treeCharge),
			onTree(workTree(askUsage, t.keys), t.tree, 4, treeUsage),
		)
	}
	b := newBloat(pg, env.Quick)
	return append(cs,
		stated(workBloatSize, b, func(b bloat) float64 { return b.size }),
		stated(workBloatDead, b, func(b bloat) float64 { return b.dead }),
	)
}

func growthCases(harness.Env) (cs []harness.Case) {
	// A group holds the four cases of a ratio, so that a million keys do not lie
	// beside other groups' memory.
	group := func(what string, sizes [2]int, of func(n int) [2]harness.Case) {
		for _, n := range sizes {
			for _, c := range of(n) {
				c.Work, c.Group = workGrowth(what, n), what
				cs = append(cs, c)
			}
		}
	}
	group(growAuthKeys, growKeys, func(n int) [2]harness.Case {
		return [2]harness.Case{floorAuthenticate("", keysShape(n), 1), ourAuthenticate("", keysShape(n), 1)}
	})
	group(growMemoryKeys, growKeys, func(n int) [2]harness.Case {
		return [2]harness.Case{floorCharge("", keysShape(n), 1), ourCharge("", keysShape(n), 1)}
	})
	group(growMemoryOrgs, growOrgs, func(n int) [2]harness.Case {
		return [2]harness.Case{floorCharge("", orgsShape(n), 1), ourCharge("", orgsShape(n), 1)}
	})
	group(growMemoryDays, growDays, func(n int) [2]harness.Case {
		return [2]harness.Case{floorCharge("", past, 1), ourChargeInHistory("", past, n)} // the floor keeps no history
	})
	group(growDurableKeys, growKeys, func(n int) [2]harness.Case {
		return [2]harness.Case{boltUpdate("", whoFloor, keysShape(n), 1, 0, true), ourDurable("", keysShape(n), 1, 0)}
	})
	group(growDurableOrgs, growOrgs, func(n int) [2]harness.Case {
		return [2]harness.Case{boltUpdate("", whoFloor, orgsShape(n), 1, 0, true), ourDurable("", orgsShape(n), 1, 0)}
	})
	group(growDurableDays, growDays, func(n int) [2]harness.Case {
		return [2]harness.Case{boltUpdate("", whoFloor, past, 1, n, true), ourDurable("", past, 1, n)}
	})
	for _, c := range []harness.Case{ourMemory(workPerKey, keysShape(100_000)), ourOpen(workOpen, keysShape(1_000_000))} {
		c.Group = c.Work
		cs = append(cs, c)
	}
	return cs
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
