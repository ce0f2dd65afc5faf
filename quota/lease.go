package quota

// lane is what a Ledger that leases knows of one caller.
type lane struct{}
