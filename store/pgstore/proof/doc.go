// Package proof proves store/pgstore where its own tests must not reach: over
// pgx beside lib/pq, through PgBouncer, and through a proxy that cuts
// connections. It is a module of its own, so that none of it is in the graph of
// those who use keypurse. There is nothing in it to import.
package proof
