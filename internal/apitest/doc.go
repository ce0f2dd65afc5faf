// Package apitest holds the management API to its OpenAPI document, in a module
// of its own so that nobody who uses keypurse links what it needs.
package apitest
