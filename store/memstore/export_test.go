package memstore

import (
	"slices"

	"github.com/keypurse/keypurse/saccount"
)

// PutAudit replaces what is kept of an audit log, as nobody can but a test.
func (s *Store) PutAudit(org string, cut saccount.Cut, es []saccount.Entry) {
	o := s.org(org)
	o.Lock()
	defer o.Unlock()
	o.cut, o.audit = cut, slices.Clone(es)
}
