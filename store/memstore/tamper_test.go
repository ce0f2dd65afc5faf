package memstore_test

import (
	"testing"

	"github.com/keypurse/keypurse/internal/tamper"
	"github.com/keypurse/keypurse/saccount"
	"github.com/keypurse/keypurse/store/memstore"
)

func TestTamperedAuditLogs(t *testing.T) {
	tamper.Run(t, func(*testing.T) tamper.Target {
		s := memstore.New()
		return tamper.Target{Store: s, Put: func(_ *testing.T, org string, cut saccount.Cut, es []saccount.Entry) { s.PutAudit(org, cut, es) }}
	})
}
