// Package web holds the rules of HTTP that middleware and dashboard share:
// where a request comes from, which credentials it presents, how an
// idempotency key is read, how a refusal is challenged and how long it keeps
// its caller out. What the two say in their own words stays with them.
package web
