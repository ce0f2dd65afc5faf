package boltstore

func child(path string) int { return 0 }
