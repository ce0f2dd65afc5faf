// Package sim proves the core by a seeded random history: it drives a
// saccount.Service through creations, edits, charges, reservations, rotations,
// deletions and clock jumps both ways, and compares every reply with a plain
// model of maps and loops that shares nothing with quota.Book. The same seed
// gives the same history on every store, so that a violation can be replayed
// and the replies of two stores compared.
//
// What is checked, by the numbers that violations carry:
//
//	I1  no admission takes used + overage + held above Max
//	I2  used + overage of a window is the sum of its operations and of its buckets
//	I3  in every bucket an account is the sum of its keys, an organization that of its accounts and members
//	I4  an id applies at most once
//	I5  nothing is held where nothing is open and nothing is stranded
//	I6  every charge is in exactly one bucket
//	I7  a refusal changes no counter, hold or id
//	I8  after Disable, Delete or Rotate(0) nothing authenticates and nothing is charged
//	I9  no secret is in a store or a log
//	I10 one alert per subject, limit, window and threshold
//
// [Leases] is apart: processes with wrong clocks lease from one store and die.
//
// The model decides I1, I4 and I7 by itself: a reply or a later state that
// breaks one of them differs from what the model says.
package sim
