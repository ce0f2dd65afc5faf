# keypurse. `make test` is all a newcomer needs; the rest is for its developers.

GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
# The library, and the modules beside it that have dependencies of their own.
MODULES := . store/pgstore/proof observe/otelpurse observe/prompurse examples/frameworks bench internal/apitest dashboard/browsertest

# The race detector needs a C compiler.
RACE := $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)

.PHONY: test setup screenshots proof check fmt vet staticcheck vuln fips fuzz sim crash powercut bench bench-full bench-size bench-quick pattern

test: setup ## everything, with the race detector where a C compiler is there
ifeq ($(RACE),)
	@echo "make test: no C compiler was found, so the race detector is off; install gcc to have it on"
endif
	@for m in $(MODULES); do echo "== go test $$m"; $(GO) -C $$m test $(RACE) -shuffle=on -timeout 9m ./... || exit 1; done
	@$(MAKE) --no-print-directory fips

setup: ## what the tests need and this machine lacks: two versions of Postgres, PgBouncer, Chromium, axe-core
	@$(GO) run ./internal/setup

CUTS ?= 1000
# The long forms of what make test runs in short ones.
proof: setup ## pgstore with more cuts and promotions, a longer stop, the whole suite on two versions
	KEYPURSE_CUTS=$(CUTS) KEYPURSE_PROMOTIONS=4 KEYPURSE_STOPPED_SECONDS=10 KEYPURSE_PROOF_WHOLE=1 \
	$(GO) -C store/pgstore/proof test $(RACE) -count=1 -v -timeout 60m .

SCREENSHOTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/keypurse-browser/screenshots
screenshots: setup ## every page of the dashboard, 1440 and 360 pixels wide, light and dark
	KEYPURSE_SCREENSHOTS=$(abspath $(SCREENSHOTS)) $(GO) -C dashboard/browsertest test -count=1 -run Screenshots .
	@echo "they are in $(SCREENSHOTS)"

fips: ## the key format under FIPS 140-3 cryptography alone
	GODEBUG=fips140=only $(GO) test ./apikey

check: fmt vet staticcheck vuln ## what linters say

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet:
	@for m in $(MODULES); do $(GO) -C $$m vet ./... || exit 1; done
	@for m in $(MODULES); do GOARCH=386 $(GO) -C $$m vet ./... || exit 1; done # an int may have 32 bits

staticcheck:
	@for m in $(MODULES); do $(GO) -C $$m run $(STATICCHECK) ./... || exit 1; done

# Exit code 3 is a finding; anything else that fails is the vulnerability
# database being out of reach, which is said and passed over.
vuln:
	@for m in . ; do $(GO) -C $$m run $(GOVULNCHECK) ./... > .vuln.out 2>&1; code=$$?; \
	if grep -q 'Your code is affected by' .vuln.out; then cat .vuln.out; rm -f .vuln.out; exit 1; \
	elif [ $$code -ne 0 ]; then echo "make vuln: the vulnerability database cannot be reached; not checked"; fi; rm -f .vuln.out; done

FUZZTIME ?= 10s
fuzz: ## every fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

bench: ## floors, peers and keypurse side by side; writes bench/RESULTS.md. One section anew: make bench SECTION=postgres
	cd bench && $(GO) run ./cmd/bench $(if $(SECTION),-section $(SECTION))

bench-full: ## the same with the longest sections: Redis, a million keys on Postgres and in the dashboard, ten minutes of load; installs what is missing where it can
	cd bench && $(GO) run ./cmd/bench -full

bench-size: ## what rows and bytes things cost on Postgres
	cd bench && $(GO) run ./cmd/bench -size

bench-quick: ## a smoke test of the same
	cd bench && $(GO) run ./cmd/bench -quick

SEED ?= 1
STEPS ?= 1000000
STORE ?= memory
sim: ## the seeded simulation against a plain model: make sim SEED=… STEPS=… STORE=memory|bolt|postgres|all; LEASES=1: of processes that lease
	$(GO) run ./internal/sim/cmd/sim -seed $(SEED) -steps $(STEPS) -store $(STORE) $(if $(LEASES),-leases $(if $(filter 1,$(LEASES)),60s,$(LEASES)))

crash: ## kill -9 of a process that charges, and of one that alerts, 200 times each
	KEYPURSE_CRASH_KILLS=200 $(GO) test -count=1 -v -run 'Crash|Kills' -timeout 30m ./store/boltstore ./saccount

pattern: ## the rule of spending out of pattern, judged by recorded series: make pattern DIR=a copy of github.com/numenta/NAB; writes alert/PATTERN.md
	$(GO) run ./internal/patterns/cmd/pattern "$(DIR)"

powercut: ## power cuts of a loop device; needs root, loop devices and mkfs.ext4
	$(GO) test -count=1 -tags powercut -run PowerCut -v -timeout 30m ./store/boltstore
