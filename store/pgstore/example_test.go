package pgstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"

	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/pgstore"
)

// A host with a pool of its own: the schema is migrated by its deployment, or
// here, and the pool stays the host's.
func ExampleNew() {
	dsn := os.Getenv("DATABASE_URL")
	if dsn == "" {
		fmt.Println("set DATABASE_URL to try it")
		return
	}
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	cfg := pgstore.Config{Schema: "keypurse"}
	if err := pgstore.Migrate(context.Background(), db, cfg); err != nil {
		log.Fatal(err)
	}
	store, err := pgstore.New(db, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	svc, err := saccount.New(store, saccount.Config{Prefix: "acme_live"})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	fmt.Println(svc.Prefix())
}

// The schema's steps, to be run by a tool of the host's choice.
func ExampleMigrations() {
	f, err := pgstore.Migrations().Open("00001_store.sql")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Name())
	// Output: 00001_store.sql
}
