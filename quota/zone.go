package quota

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxZoneName bounds a zone's name; the longest of IANA's has 32 bytes.
	maxZoneName = 64
	// maxZonesKept bounds the zones kept in memory. IANA has about 600
	// names; on file systems that ignore case more spellings can be loaded.
	maxZonesKept = 1024
)

// zones keeps what time.LoadLocation read, because that opens and parses a file
// on each call (about 20 µs) and a window is asked for with every charge. It is
// a cache of constants, the same for every user of the process, so that it is
// kept here and not in each Period: it only ever grows, by copy, to at most
// maxZonesKept entries, and nothing depends on whether a name is in it.
var zones atomic.Pointer[map[string]*time.Location]

// LoadZone returns the location of an IANA time zone, such as "Europe/Berlin"
// or "UTC". It differs from [time.LoadLocation] in what it refuses: "" and
// "Local" (which mean something else on every machine), paths, the "posix/" and
// "right/" trees, "Factory", and whatever else is no name of the IANA database.
// The error wraps [ErrInvalid].
//
// Where the rules come from is Go's choice: the system's database or, in a
// program that imports time/tzdata, the one compiled in. Main programs should
// import it, a container often has no other. Zones are read once and kept (at
// most 1024). LoadZone may be called concurrently.
func LoadZone(name string) (*time.Location, error) {
	kept := zones.Load()
	if kept != nil {
		if loc, ok := (*kept)[name]; ok {
			return loc, nil
		}
	}
	// A name of the right form cannot be a token, whose prefix begins in
	// lower case, so that the messages below show only harmless text.
	if !zoneNameOK(name) {
		return nil, fmt.Errorf("quota: zone is not an IANA name such as Europe/Berlin or UTC: %w", ErrInvalid)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("quota: zone %q is not in the time zone database (IANA names such as Europe/Berlin are; import time/tzdata where the machine has none): %w", name, ErrInvalid)
	}
	for {
		grown := map[string]*time.Location{name: loc}
		if kept != nil {
			if len(*kept) >= maxZonesKept {
				return loc, nil
			}
			for n, l := range *kept {
				grown[n] = l
			}
			if l, ok := (*kept)[name]; ok {
				return l, nil
			}
		}
		if zones.CompareAndSwap(kept, &grown) {
			return loc, nil
		}
		kept = zones.Load()
	}
}

// zoneNameOK tells whether name has the form of an IANA name: parts that begin
// with a capital and hold letters, digits, '_', '-' and '+', with '/' between.
// Everything that is not a zone in a zoneinfo directory begins in lower case
// (posix/, right/, posixrules, localtime, tzdata.zi); since some file systems
// ignore case, those names are refused in every spelling.
func zoneNameOK(name string) bool {
	if len(name) > maxZoneName {
		return false
	}
	first, _, _ := strings.Cut(name, "/")
	for _, no := range [...]string{"posix", "right", "posixrules", "local", "localtime", "factory"} {
		if strings.EqualFold(first, no) {
			return false
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] < 'A' || part[0] > 'Z' {
			return false
		}
		for i := range len(part) {
			switch c := part[i]; {
			case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', isDigit(c), c == '_', c == '-', c == '+':
			default:
				return false
			}
		}
	}
	return true
}
