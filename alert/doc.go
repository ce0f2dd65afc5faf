// Package alert brings alerts to people: from the store's outbox to functions,
// logs, mail and webhooks, each at least once, under one id.
//
// A threshold's alert is put into the outbox by the commit that passed it;
// alerts of other kinds are posted with a change of records or by a sweep (see
// New and Post), each once under its id. A Deliverer dispatches what is new to
// the sinks whose filters it passes, and sends it: every sink for itself, so
// that one which hangs or fails delays no other, and no charge waits for any.
// What fails is tried again on a schedule; what was given up is kept as a dead
// letter and can be replayed.
//
// Hosts do not use a Deliverer directly: saccount.Config.Alerts names the sinks,
// and saccount.Service.Watch runs it.
package alert
