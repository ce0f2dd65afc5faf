package dashboard

import (
	"reflect"

	"github.com/keypurse/keypurse/quota"
	"github.com/keypurse/keypurse/saccount"
)

// What follows turns the difference between what was and what shall be into an
// Update: only what differs is in it.

func differs[T comparable](was, now T) *T {
	if was == now {
		return nil
	}
	return &now
}

func editLabels(was, now map[string]string) map[string]*string {
	out := map[string]*string{}
	for k := range was {
		if _, ok := now[k]; !ok {
			out[k] = nil
		}
	}
	for k, v := range now {
		if old, ok := was[k]; !ok || old != v {
			out[k] = &v
		}
	}
	return out
}

func editLimits(was, now map[string]limitSpec) saccount.Limits {
	out := saccount.Limits{}
	for name := range was {
		if _, ok := now[name]; !ok {
			out[name] = nil
		}
	}
	for name, l := range now {
		if old, ok := was[name]; !ok || !reflect.DeepEqual(old, l) {
			out[name] = l.spec()
		}
	}
	return out
}

// editThresholds: a pointer to nil inherits again.
func editThresholds(was, now *[]quota.Threshold) *[]quota.Threshold {
	switch {
	case reflect.DeepEqual(was, now):
		return nil
	case now == nil:
		return new([]quota.Threshold)
	}
	return now
}

func editRate(was, now *rate) *saccount.RateLimit {
	switch {
	case reflect.DeepEqual(was, now):
		return nil
	case now == nil:
		return &saccount.RateLimit{}
	}
	return now.limit()
}
