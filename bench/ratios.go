package bench

import (
	"fmt"
	"strings"

	"github.com/keypurse/keypurse/bench/internal/harness"
)

// This file is what keypurse is held to. "Must" is the bound that a release
// keeps; "aim" is where it is going.

// metric is one figure of a round.
type metric struct {
	name string
	of   func(harness.Round) float64
}

var (
	nanos     = metric{"time", harness.Round.Nanos}
	perSec    = metric{"calls/s", func(r harness.Round) float64 { return r.Rate }}
	p99       = metric{"p99", func(r harness.Round) float64 { return r.P99 }}
	p99ms     = metric{"p99", func(r harness.Round) float64 { return r.P99 / 1e6 }}
	allocs    = metric{"allocations", func(r harness.Round) float64 { return r.Allocs }}
	megabytes = metric{"megabytes", func(r harness.Round) float64 { return r.Bytes / 1e6 }}
	value     = metric{"value", func(r harness.Round) float64 { return r.Value }}
)

// figure is a metric of one case, less the same metric of another where Above
// names one (what a middleware adds to the bare handler).
type figure struct {
	metric
	Case, Above string
}

// bound is "at most X" or, with Least, "at least X".
type bound struct {
	X     float64
	Least bool
}

func atMost(x float64) bound  { return bound{x, false} }
func atLeast(x float64) bound { return bound{x, true} }

// ratio is the product of Over divided by the product of Under, taken in each
// round. Without Under it is a plain figure.
type ratio struct {
	What        string // what is compared, in words
	At          string // under which conditions
	Over, Under []figure
	Must, Aim   bound
}

// line is one path with what it must reach and all the ratios that tell. They are
// all of one section.
type line struct {
	Section         string
	Path, Must, Aim string
	Ratios          []ratio
}

// none is how many allocations a call may have on average to count as none:
// what the runtime itself does in a round.
const none = 0.02

func lines() []line {
	return []line{
		{
			Section: secAuthenticate,
			Path:    "Authenticate, key known, 1,000 and 100,000 keys, 1 and 2 processors",
			Must:    "at most 2x the floor (parse, checksum, keyed hash, one lookup), 0 allocations",
			Aim:     "1.3x",
			Ratios:  authenticateRatios(),
		},
		{
			Section: secMemory,
			Path:    "Authenticate + charge over 3 levels with usage, memory, 1 and 32 callers, one hot organization and spread",
			Must:    "ahead of go-limiter, ulule/limiter, throttled and x/time/rate doing the same three levels; at most 5x the floor (hash, lookup, 3 fetch-adds)",
			Aim:     "2x, ahead of one mutex over two maps",
			Ratios:  memoryRatios(),
		},
		{
			Section: secMiddleware,
			Path:    "middleware with authenticate + charge, in-process request",
			Must:    "ahead of go-limiter's, ulule's, throttled's and httprate's middleware, which neither check a key nor charge three levels; at most 8 allocations above the bare handler",
			Aim:     "half their time",
			Ratios:  middlewareRatios(),
		},
		{
			Section: secLoopback,
			Path:    "the same over loopback keep-alive",
			Must:    "at least 0.9 of the bare handler's requests a second",
			Aim:     "0.95",
			Ratios: []ratio{{
				What: "of the bare handler's requests/s", At: workLoopback,
				Over:  of(perSec, secLoopback, workLoopback, whoKeypurse),
				Under: of(perSec, secLoopback, workLoopback, whoBare),
				Must:  atLeast(0.9), Aim: atLeast(0.95),
			}},
		},
		{
			Section: secDurable,
			Path:    "bbolt, durable before the answer, usage included: 1 caller",
			Must:    "at least 0.8 of bare db.Update with the same three counters",
			Aim:     "1.0",
			Ratios: []ratio{{
				What: "of bare db.Update's charges/s", At: workDurable(1),
				Over:  of(perSec, secDurable, workDurable(1), whoKeypurse),
				Under: of(perSec, secDurable, workDurable(1), whoUpdate),
				Must:  atLeast(0.8), Aim: atLeast(1),
			}},
		},
		{
			Section: secDurable,
			Path:    "bbolt: 64 callers / 256 callers",
			Must:    "at least 10x / 20x bare db.Update a charge; p99 at 64 callers at most 4x a bare Update's",
			Aim:     "25x / 80x",
			Ratios: []ratio{
				{
					What: "x bare db.Update's charges/s", At: workDurable(64),
					Over:  of(perSec, secDurable, workDurable(64), whoKeypurse),
					Under: of(perSec, secDurable, workDurable(1), whoUpdate),
					Must:  atLeast(10), Aim: atLeast(25),
				},
				{
					What: "x bare db.Update's charges/s", At: workDurable(256),
					Over:  of(perSec, secDurable, workDurable(256), whoKeypurse),
					Under: of(perSec, secDurable, workDurable(1), whoUpdate),
					Must:  atLeast(20), Aim: atLeast(80),
				},
				{
					What: "x the p99 of a bare db.Update by 1 caller", At: workDurable(64),
					Over:  of(p99, secDurable, workDurable(64), whoKeypurse),
					Under: of(p99, secDurable, workDurable(1), whoUpdate),
					Must:  atMost(4), Aim: atMost(4),
				},
			},
		},
		{
			Section: secBetterAuth,
			Path:    "bbolt against better-auth's api-key plugin on SQLite, durable, 32 callers, the same verify and decrement",
			Must:    "20x",
			Aim:     "100x",
			Ratios: []ratio{{
				What: "x better-auth's calls/s", At: workBetterAuth,
				Over:  of(perSec, secBetterAuth, workBetterAuth, whoKeypurse),
				Under: of(perSec, secBetterAuth, workBetterAuth, whoBetterAuth),
				Must:  atLeast(20), Aim: atLeast(100),
			}},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, strict: a lone caller",
			Must:    "at least 0.4 of the best single prepared statement that writes the same rows, usage included; 1.5x the hand-written transaction",
			Aim:     "0.7",
			Ratios: []ratio{
				postgresRatio("of the best single statement's charges/s", workPostgres(treeHot, 1, 1), workPostgres(treeHot, 1, 1), whoSingle, 0.4, 0.7),
				postgresRatio("x the hand-written transaction's charges/s", workPostgres(treeHot, 1, 1), workPostgres(treeHot, 1, 1), whoHand, 1.5, 1.5),
			},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, strict: 32 callers, one hot organization",
			Must:    "10x the hand-written transaction, 10x better-auth, p99 lower than both",
			Aim:     "25x",
			Ratios:  hotRatios(),
		},
		{
			Section: secPostgres,
			Path:    "Postgres, strict: 256 callers, one hot organization",
			Must:    "35x the hand-written transaction at 32 callers",
			Aim:     "60x",
			Ratios:  []ratio{postgresRatio("x the hand-written transaction's charges/s at 32 callers", workPostgres(treeHot, 256, 1), workPostgres(treeHot, 32, 1), whoHand, 35, 60)},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, strict: 32 callers, 64 organizations",
			Must:    "at least the best single statement that writes the same rows",
			Aim:     "2x",
			Ratios:  []ratio{postgresRatio("x the best single statement's charges/s", workPostgres(treeOrgs64, 32, 1), workPostgres(treeOrgs64, 32, 1), whoSingle, 1, 2)},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, strict: 4 processes of 64 callers, one hot organization",
			Must:    "12x one row updated a charge from 4 processes",
			Aim:     "17x",
			Ratios: []ratio{
				postgresRatio("x one row a charge, as many callers", workPostgres(treeHot, 256, 4), workPostgres(treeHot, 256, 4), whoRow, 12, 17),
				informing(postgresRatio("x one row a charge at its best: 4 processes of 8 callers", workPostgres(treeHot, 256, 4), workPostgres(treeHot, 32, 4), whoRow, 0, 0)),
			},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, leases: one process, 32 callers, one hot organization",
			Must:    "100x the hand-written transaction",
			Aim:     "1,000x",
			Ratios: []ratio{
				leaseRatio("x the hand-written transaction's charges/s", workPostgres(treeBusy, 32, 1), workPostgres(treeHot, 32, 1), whoHand, atLeast(100), atLeast(1000)),
				// Of 10,000 keys in turn, few are charged often enough for a block.
				leaseRatio("x the hand-written transaction's charges/s, 10,000 keys in turn", workPostgres(treeHot, 32, 1), workPostgres(treeHot, 32, 1), whoHand, bound{Least: true}, bound{Least: true}),
			},
		},
		{
			Section: secPostgres,
			Path:    "Postgres, leases: 4 processes, one hot organization",
			Must:    "no database transaction a charge; in sum at least 1.2x one process",
			Aim:     "2x where cores allow",
			Ratios: []ratio{
				leaseRatio("x one process' charges/s", workOneProcessor(32, 4), workOneProcessor(8, 1), whoLeases, atLeast(1.2), atLeast(2)),
				// One process alone keeps all processors busy.
				leaseRatio("x the charges/s of one process on all processors", workPostgres(treeBusy, 32, 4), workPostgres(treeBusy, 32, 1), whoLeases, bound{Least: true}, bound{Least: true}),
				{
					What: "transactions that write, a charge", At: workPostgres(treeBusy, 32, 4),
					Over: of(value, secPostgres, workWrites, whoLeases),
					Must: atMost(0.01), Aim: atMost(0.01),
				},
			},
		},
		{
			Section: secPostgres,
			Path:    "Postgres: Authenticate without a cache",
			Must:    "one round trip, at least 0.8 of the bare prepared SELECT",
			Aim:     "0.95",
			Ratios: []ratio{
				postgresRatio("of the calls/s of a bare SELECT of the same rows", workLookup, workLookup, whoSelectAll, 0.8, 0.95),
				informing(postgresRatio("of the calls/s of a bare SELECT of one row", workLookup, workLookup, whoSelect, 0, 0)),
			},
		},
		{
			Section: secRedis,
			Path:    "Postgres, strict, one hot organization, against Redis with appendfsync always and a Lua script, which checks no key and counts no usage",
			Must:    "-",
			Aim:     "ahead at 256 callers",
			Ratios: []ratio{
				redisRatio(256, atLeast(1)),
				redisRatio(32, bound{Least: true}),
			},
		},
		{
			Section: secWatching,
			Path:    "charges with thresholds on three levels that are passed once in 10,000, all rules on and Watch sending to a function: memory, bbolt (64 callers), Postgres (32 callers)",
			Must:    "at least 0.95 of the charges a second without thresholds, rules and Watch",
			Aim:     "0.98",
			Ratios:  watchingRatios(),
		},
		{
			Section: secDashboard,
			Path:    "the dashboard of one organization with 100,000 accounts and 1,000,000 keys, on bbolt and Postgres: overview, lists, search, an account, the API's lists",
			Must:    "99 of 100 under 100 ms, 32 MB allocated at most",
			Aim:     "under 25 ms, 4 MB",
			Ratios:  dashboardRatios(),
		},
		{
			Section: secLarge,
			Path:    "Postgres: 1,000,000 keys, 100,000 accounts, a year of buckets for 1,000 of them",
			Must:    "authenticate, charge and usage queries within 3x of an empty database; bloat after 10 minutes of load stated",
			Aim:     "flat",
			Ratios:  largeRatios(),
		},
		{
			Section: secGrowth,
			Path:    "cost as the work grows: 1,000 to 1,000,000 keys, 1 to 10,000 organizations, 1 to 365 days of history",
			Must:    "charge and authenticate times grow at most 1.5 times as much as the floor's over the same sizes; opening a file of 1,000,000 keys under 2 s",
			Aim:     "as the floor",
			Ratios:  growthRatios(),
		},
		{
			Section: secGrowth,
			Path:    "memory, authenticating and charging with 100,000 keys known",
			Must:    "at most 1 KB a key",
			Aim:     "1 KB",
			Ratios: []ratio{{
				What: "bytes a key", At: "100,000 keys",
				Over: of(value, secGrowth, workPerKey, whoKeypurse),
				Must: atMost(1024), Aim: atMost(1024),
			}},
		},
	}
}

func postgresRatio(what, ours, theirs, who string, must, aim float64) ratio {
	return ratio{
		What: what, At: ours,
		Over:  of(perSec, secPostgres, ours, whoKeypurse),
		Under: of(perSec, secPostgres, theirs, who),
		Must:  atLeast(must), Aim: atLeast(aim),
	}
}

// informing is a ratio that binds nobody.
func informing(r ratio) ratio {
	r.Must, r.Aim = bound{Least: true}, bound{Least: true}
	return r
}

func leaseRatio(what, ours, theirs, who string, must, aim bound) ratio {
	return ratio{
		What: what, At: ours,
		Over:  of(perSec, secPostgres, ours, whoLeases),
		Under: of(perSec, secPostgres, theirs, who),
		Must:  must, Aim: aim,
	}
}

// hotRatios are those of one hot organization, 32 callers.
func hotRatios() (rs []ratio) {
	work := workPostgres(treeHot, 32, 1)
	for _, peer := range []struct {
		who, name string
		held      bool // its figures bind
	}{{whoHand, "the hand-written transaction's", true}, {whoBetterPG, "better-auth's", true}, {whoFlexible, "rate-limiter-flexible's", false}} {
		rate := postgresRatio("x "+peer.name+" charges/s", work, work, peer.who, 10, 25)
		tail := ratio{
			What: "x " + peer.name + " p99", At: work,
			Over:  of(p99, secPostgres, work, whoKeypurse),
			Under: of(p99, secPostgres, work, peer.who),
			Must:  atMost(1), Aim: atMost(1),
		}
		if !peer.held {
			rate.Must, rate.Aim = bound{Least: true}, bound{Least: true}
			tail.Must, tail.Aim = bound{Least: true}, bound{Least: true}
		}
		rs = append(rs, rate, tail)
	}
	return rs
}

func redisRatio(callers int, aim bound) ratio {
	work := workPostgres(treeHot, callers, 1)
	return ratio{
		What: "x Redis' charges/s", At: work,
		Over:  of(perSec, secRedis, work, whoKeypurse),
		Under: of(perSec, secRedis, work, whoRedis),
		Must:  bound{Least: true}, Aim: aim,
	}
}

func watchingRatios() (rs []ratio) {
	for _, p := range watchedStores {
		rs = append(rs, ratio{
			What: "of the unwatched charges/s", At: p.work(),
			Over:  of(perSec, secWatching, p.work(), whoWatched),
			Under: of(perSec, secWatching, p.work(), whoUnwatched),
			Must:  atLeast(0.95), Aim: atLeast(0.98),
		})
	}
	return rs
}

func dashboardRatios() (rs []ratio) {
	for _, p := range boards {
		for _, ask := range dashboardAsks {
			of := func(m metric) []figure { return of(m, secDashboard, ask, whoKeypurse+", "+p.name) }
			rs = append(rs,
				ratio{What: "ms, p99", At: p.name + ": " + ask, Over: of(p99ms), Must: atMost(100), Aim: atMost(25)},
				ratio{What: "MB allocated", At: p.name + ": " + ask, Over: of(megabytes), Must: atMost(32), Aim: atMost(4)},
			)
		}
	}
	return rs
}

// largeRatios are times on the large database, of those on the empty one.
func largeRatios() (rs []ratio) {
	for _, ask := range []string{askAuthenticate, askCharge, askUsage} {
		rs = append(rs, ratio{
			What: "x the empty database's time", At: ask,
			Over:  of(nanos, secLarge, workTree(ask, largeTree.Keys), whoKeypurse),
			Under: of(nanos, secLarge, workTree(ask, emptyTree.Keys), whoKeypurse),
			Must:  atMost(3), Aim: atMost(1.2),
		})
	}
	for _, work := range []string{workBloatSize, workBloatDead} {
		rs = append(rs, ratio{
			What: strings.TrimPrefix(work, bloatWork+": "), At: bloatWork,
			Over: of(value, secLarge, work, whoKeypurse),
			Must: bound{Least: true}, Aim: bound{Least: true},
		})
	}
	return rs
}

func authenticateRatios() (rs []ratio) {
	for _, keys := range authenticateKeys {
		for _, procs := range authenticateProcs {
			work := workAuthenticate(keys, procs)
			rs = append(rs, ratio{
				What: "x the floor's time", At: work,
				Over:  of(nanos, secAuthenticate, work, whoKeypurse),
				Under: of(nanos, secAuthenticate, work, whoFloor),
				Must:  atMost(2), Aim: atMost(1.3),
			}, ratio{
				What: "allocations", At: work,
				Over: of(allocs, secAuthenticate, work, whoKeypurse),
				Must: atMost(none), Aim: atMost(none),
			})
		}
	}
	return rs
}

func memoryRatios() (rs []ratio) {
	for _, t := range trees {
		for _, callers := range memoryCallers {
			work := workMemory(t.name, callers)
			against := func(what, at, who string, must, aim bound) ratio {
				return ratio{
					What: what, At: at,
					Over:  of(nanos, secMemory, work, whoKeypurse),
					Under: of(nanos, secMemory, work, who),
					Must:  must, Aim: aim,
				}
			}
			rs = append(rs, against("x the floor's time", work, whoFloor, atMost(5), atMost(2)))
			for _, l := range limiters {
				rs = append(rs, against("x the peers' time", work+": "+l.who, l.who, atMost(1), atMost(1)))
			}
			// Ahead of one mutex is an aim only: any figure meets its must.
			rs = append(rs, against("x one mutex over two maps' time", work, whoNaive, bound{Least: true}, atMost(1)))
		}
	}
	return rs
}

func middlewareRatios() (rs []ratio) {
	own := figure{nanos, name(secMiddleware, whoKeypurse), name(secMiddleware, whoBare)}
	for _, m := range middlewares[1:] {
		rs = append(rs, ratio{
			What: "x the peers' time above the bare handler", At: m.who,
			Over:  []figure{own},
			Under: []figure{{nanos, name(secMiddleware, m.who), name(secMiddleware, whoBare)}},
			Must:  atMost(1), Aim: atMost(0.5),
		})
	}
	own.metric = allocs
	return append(rs, ratio{
		What: "allocations above the bare handler", At: workMiddleware,
		Over: []figure{own},
		Must: atMost(8 + none), Aim: atMost(8 + none),
	})
}

func growthRatios() (rs []ratio) {
	for _, g := range []struct {
		what  string
		sizes [2]int
	}{
		{growAuthKeys, growKeys},
		{growMemoryKeys, growKeys}, {growMemoryOrgs, growOrgs}, {growMemoryDays, growDays},
		{growDurableKeys, growKeys}, {growDurableOrgs, growOrgs}, {growDurableDays, growDays},
	} {
		small, big := workGrowth(g.what, g.sizes[0]), workGrowth(g.what, g.sizes[1])
		rs = append(rs, ratio{
			What: "x the floor's growth", At: fmt.Sprintf("%s to %s", small, thousands(g.sizes[1])),
			Over:  append(of(nanos, secGrowth, big, whoKeypurse), of(nanos, secGrowth, small, whoFloor)...),
			Under: append(of(nanos, secGrowth, small, whoKeypurse), of(nanos, secGrowth, big, whoFloor)...),
			Must:  atMost(1.5), Aim: atMost(1),
		})
	}
	return append(rs, ratio{
		What: "seconds to open", At: "1,000,000 keys",
		Over: of(value, secGrowth, workOpen, whoKeypurse),
		Must: atMost(2), Aim: atMost(2),
	})
}

// of is one figure of one case.
func of(m metric, section, work, who string) []figure {
	return []figure{{metric: m, Case: harness.Name(section, work, who)}}
}

func name(section, who string) string { return harness.Name(section, workMiddleware, who) }
