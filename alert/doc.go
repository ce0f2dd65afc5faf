// Package alert brings alerts to people: from the store's outbox to functions,
// logs, mail and webhooks, each at least once, under one id.
//
// Hosts do not use a [Deliverer] directly: saccount.Config.Alerts names the sinks
// and the rules, and saccount.Service.Watch runs them. Organizations have
// recipients of their own (saccount.Service.AddRecipient): webhooks and mail
// addresses, which belong to the organization and not to whoever made a key.
//
// # From the outbox on
//
// A threshold's alert is put into the outbox by the commit that passed it: once
// for each subject, limit, window and threshold, and no crash loses it. Alerts of
// other kinds are posted with a change of records or by a sweep (see [New] and
// [Post]), each once under the id of its episode. A Deliverer dispatches what is
// new to the sinks whose [Filter] it passes, and sends it: every sink for
// itself, so that one which hangs or fails delays no other, and no charge waits
// for any.
//
// What fails is tried again on a schedule of ten tries over three days, each spread
// by chance around its time; a receiver's Retry-After is honoured, up to a day.
// What was given up is kept as a dead letter and can be replayed. Alerts come in
// no order that can be relied on; each says when it happened.
//
// Several processes share the work. What one has claimed the others leave alone
// until its time is over; a process that is killed between sending and noting it
// leaves an alert that is sent again, under the same id. So receivers pass over
// an id that they have seen.
//
// # Webhooks
//
// [Webhooks] posts by Standard Webhooks (https://www.standardwebhooks.com), whose
// libraries verify what comes; two secrets sign while receivers change from one
// to the other. Addresses are customers', so connections are guarded where they
// are dialled: only to public addresses, whatever a name resolves to at that
// moment, over https, without following redirects and without a proxy of the
// environment. 410 disables a recipient; nothing of an answer is shown.
//
// # Spending out of pattern
//
// [Unusual] is the rule. On 16 generated series of five weeks each, looked at
// hour by hour with a quiet day after each alert (a test holds these figures):
//
//	                             alert    no alert
//	6 incidents                      4           2
//	553 days without an incident     1         552
//
// It misses a stolen key that spends less than the account's own hours, and a
// theft that grows slowly. It cries wolf over a batch that runs once a month, since
// four weeks are its memory. On 17 recorded series of the Numenta Anomaly
// Benchmark (see PATTERN.md beside this file, which "make pattern" writes):
//
//	                                        alert    no alert
//	12 incidents far above the usual           10           2
//	27 other ones (drops, shifts, busy days)    0          27
//	717 days without an incident                1         716
package alert
