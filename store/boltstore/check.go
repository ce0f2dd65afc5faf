package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/keypurse/keypurse/quota"
)

// maxProblems bounds what one Check reports.
const maxProblems = 1000

// errEnough ends a Check that found as much as it may report.
var errEnough = errors.New("enough")

// Check reads the whole file and reports everything that is wrong with it, each
// an error that wraps quota.ErrCorrupt and names what is damaged, at most 1000:
// pages (their layout, what refers to them, what is free), the checksum and form
// of every row, indexes and records that do not agree, and credits that are held
// without an open reservation. It first writes what the journal holds into the
// tables; then it looks at one moment while the Store goes on.
//
// err is the context's, or why it could not look. An empty result and a nil err
// mean that nothing is wrong.
func (s *Store) Check(ctx context.Context) (problems []error, err error) {
	if err := s.checkpoint(ctx, "check"); err != nil && !errors.Is(err, quota.ErrCorrupt) {
		return nil, fmt.Errorf("boltstore: check: %w", err)
	}
	if err := s.lock(ctx, "check"); err != nil {
		return nil, err
	}
	c := &checker{s: s, ctx: ctx}
	err = s.settle()
	heads := s.heads()
	var tx *snap
	if err == nil || errors.Is(err, quota.ErrCorrupt) {
		if err != nil {
			c.found(err)
		}
		tx, err = s.snap()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("boltstore: check: %w", err)
	}
	defer tx.end()
	err = guarded(func() error { return c.all(tx, heads) })
	if err != nil && !errors.Is(err, errEnough) {
		if !errors.Is(err, quota.ErrCorrupt) {
			return nil, fmt.Errorf("boltstore: check: %w", err)
		}
		c.found(err)
	}
	return c.problems, nil
}

type checker struct {
	s        *Store
	ctx      context.Context
	problems []error
	steps    int
}

// found notes a problem.
func (c *checker) found(err error) {
	if !errors.Is(err, quota.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", quota.ErrCorrupt, err)
	}
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, err)
	}
}

func (c *checker) foundf(format string, args ...any) { c.found(fmt.Errorf(format, args...)) }

// step says whether to go on.
func (c *checker) step() error {
	if len(c.problems) >= maxProblems {
		return errEnough
	}
	if c.steps++; c.steps%ctxEvery == 0 {
		return c.ctx.Err()
	}
	return nil
}

// part runs one part of the check; what damage keeps it from is a problem.
func (c *checker) part(fn func() error) error {
	err := guarded(fn)
	if errors.Is(err, quota.ErrCorrupt) {
		c.found(err)
		return c.step()
	}
	return err
}

func (c *checker) all(tx *snap, heads [2]head) error {
	for _, h := range heads {
		if h.bad {
			c.foundf("page %d: one of the two heads is damaged", h.page)
		}
	}
	if err := c.part(func() error { return c.pages(tx, heads) }); err != nil {
		return err
	}
	if len(c.problems) > 0 {
		// What stands on damaged pages is read all the same, but no more is
		// concluded from what is not there.
		return c.rows(tx)
	}
	for _, part := range []func(*snap) error{c.rows, c.records, c.held, c.alerts} {
		if err := c.part(func() error { return part(tx) }); err != nil {
			return err
		}
	}
	return nil
}

// pages walks every page from the root, and counts what is free.
func (c *checker) pages(tx *snap, heads [2]head) error {
	t := tx.tree
	seen := make([]bool, t.high)
	seen[0], seen[1] = true, true
	mark := func(id, over uint64, what string) {
		for i := id; i <= id+over && i < t.high; i++ {
			if seen[i] {
				c.foundf("page %d: %s, and used for something else", i, what)
			}
			seen[i] = true
		}
	}
	var walk func(p *page, from, to []byte, depth int) error
	walk = func(p *page, from, to []byte, depth int) error {
		return t.walk(p, depth, from, to, nil, nil, func(p *page) error {
			if id := order.Uint64(p.b); id != 0 { // small buckets have no page of their own
				mark(id, p.overflow(), "in a tree")
			}
			for i := range p.n {
				if !p.leaf || p.flags(i)&bucketElem == 0 {
					continue
				}
				child, err := t.inBucket(p.value(i))
				if err == nil {
					err = walk(child, nil, nil, depth+1)
				}
				if err != nil {
					c.foundf("bucket %q: %w", p.key(i), err)
				}
			}
			return c.step()
		})
	}
	root, err := t.load(uint64(tx.Cursor().Bucket().Root()))
	if err != nil {
		return err
	}
	if err := walk(root, nil, nil, 0); err != nil {
		return err
	}
	for _, h := range heads {
		if !h.bad && h.txid == uint64(tx.ID()) && h.freelist != noFree {
			return c.free(t, h.freelist, seen, mark)
		}
	}
	return nil
}

// free reads the list of free pages: what is in no tree must be in it.
func (c *checker) free(t *tree, id uint64, seen []bool, mark func(id, over uint64, what string)) error {
	b, err := t.raw(id)
	if err != nil {
		return err
	}
	n, at := uint64(order.Uint16(b[10:])), pageHead
	if n == 0xffff && len(b) >= at+8 { // the count does not fit: it is the first number
		n, at = order.Uint64(b[at:]), at+8
	}
	if order.Uint16(b[8:]) != freePage || n > uint64(len(b)-at)/8 {
		return fmt.Errorf("%w: page %d: the list of free pages is damaged", quota.ErrCorrupt, id)
	}
	mark(id, uint64(order.Uint32(b[12:])), "the list of free pages")
	for range n {
		p := order.Uint64(b[at:])
		at += 8
		if p >= t.high {
			c.foundf("page %d is free and behind the end of the file", p)
			continue
		}
		mark(p, 0, "free")
	}
	for p := range seen {
		if !seen[p] {
			c.foundf("page %d is neither free nor used", p)
		}
	}
	return nil
}

// rows checks the checksum and the form of every row.
func (c *checker) rows(tx *snap) error {
	cur := tx.Cursor()
	for name, _ := cur.Seek([]byte("keypurse/")); bytes.HasPrefix(name, []byte("keypurse/")); name, _ = cur.Next() {
		t := tableOf(name)
		err := c.part(func() error {
			b, err := t.bucket(tx.Tx)
			if err != nil {
				return err
			}
			rc := b.Cursor()
			for k, v := rc.First(); k != nil; k, v = rc.Next() {
				v, err := t.unseal(k, v)
				if err == nil {
					err = form(t, k, v)
				}
				if err != nil {
					c.found(err)
				}
				if err := c.step(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, t := range tables {
		if tx.Bucket(t.name) == nil {
			c.foundf("the table %s is missing", t.name)
		}
	}
	return nil
}
