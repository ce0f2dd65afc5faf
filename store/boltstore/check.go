package boltstore

import "context"

func (s *Store) Check(ctx context.Context) ([]error, error) { return nil, nil }
