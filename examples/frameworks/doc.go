// Package frameworks shows keypurse's middleware in routers and frameworks
// that are not net/http. It is to copy from, not to import: see README.md.
package frameworks
