package boltstore

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// workers charge in the child: half of them with ids.
const workers = 4

// crashConfig makes a journal that is written out often, so that kills meet
// every stage of it.
var crashConfig = Config{JournalBytes: 32 << 10, OpenTimeout: 10 * time.Second}

// child charges until it is killed. Each worker w writes "w n" when its n-th
// charge was acknowledged, and counts on from KEYPURSE_FROM ("n0 n1 n2 n3").
func child(path string) int {
	if path == "hold" { // have the lock, and say so
		s, err := Open(os.Getenv("KEYPURSE_FILE"), Config{})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("ready")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent is done
		_ = s.Close()
		return 0
	}
	cfg := crashConfig
	cfg.NoSyncForTests = os.Getenv("KEYPURSE_NOSYNC") != ""
	s, err := Open(path, cfg)
	if err != nil {
		fmt.Println("open", err)
		return 1
	}
	l, err := quota.NewLedger(s, quota.LedgerConfig{})
	if err != nil {
		fmt.Println("ledger", err)
		return 1
	}
	if err := plantCrash(s); err != nil {
		fmt.Println("plant", err)
		return 1
	}
	from := strings.Fields(os.Getenv("KEYPURSE_FROM"))
	fmt.Println("ready")
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			n, _ := strconv.Atoi(from[w])
			c := chain("acme", crashKey(w), much)
			for {
				n++
				d, err := l.Charge(ctx, c, quota.Charge{ID: crashID(w, n), Amount: 1, At: crashAt(n)})
				if err != nil || !d.Allowed {
					fmt.Println("charge", w, n, d.Allowed, err)
					os.Exit(1)
				}
				// One write, so that a kill cuts no line.
				_, _ = os.Stdout.WriteString(strconv.Itoa(w) + " " + strconv.Itoa(n) + "\n")
			}
		})
	}
	wg.Wait()
	return 0
}

// plantCrash makes what the workers charge, where it is not there.
func plantCrash(s *Store) error {
	_, err := s.Lookup(ctx, "acme", saccount.KindOrg, "acme")
	if !errors.Is(err, saccount.ErrNotFound) {
		return err
	}
	b := saccount.Batch{Org: "acme", At: now, Changes: []saccount.Change{
		{Quiet: true, Record: saccount.Record{Kind: saccount.KindOrg, Org: "acme", ID: "acme", Created: now}},
		{Quiet: true, Record: saccount.Record{Kind: saccount.KindAccount, Org: "acme", ID: "worker", Parent: "acme", Name: "Worker", Created: now}},
	}}
	for w := range workers {
		b.Changes = append(b.Changes, saccount.Change{Quiet: true, Record: saccount.Record{Kind: saccount.KindKey, Org: "acme", ID: crashKey(w), Parent: "worker", Name: crashKey(w), Created: now}})
	}
	return s.Write(ctx, b)
}

func crashKey(w int) string { return fmt.Sprintf("worker%d", w) }

// crashAt makes the charges wander over buckets.
func crashAt(n int) time.Time { return now.Add(time.Duration(n/64) * time.Minute) }

func crashID(w, n int) string {
	if w%2 == 0 {
		return ""
	}
	return fmt.Sprintf("w%d-%d", w, n)
}
