// Package browsertest drives the dashboard in a real browser: what a person
// does, sees and must not see. It has no code but its tests, in a module of
// their own for what they are driven with.
package browsertest
