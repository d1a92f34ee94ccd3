# The front door: `make help` lists the targets.
# USE_PGXS=1 is how packagers call it, as any extension's: PG_CONFIG says for which PostgreSQL; `all`, `install` and
# `installcheck` are the targets, and nothing is installed or fetched for the build.
ifdef USE_PGXS
PG_CONFIG ?= pg_config
PG        := $(shell $(PG_CONFIG) --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
else
PG        ?= 15
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config
endif
export PG PG_CONFIG
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)

CARGO     ?= cargo
LIBRARY   := target/release/libhll.so
SCRIPTS   := target/extension
LAB        = $(CARGO) run --quiet --release -p hll-lab --bin

ifdef USE_PGXS
# Where the packager has cargo build: CARGO_TARGET_DIR.
LIBRARY   := $(or $(CARGO_TARGET_DIR),target)/release/libhll.so
FLAGS     := --locked --offline
SETUP     :=
.DEFAULT_GOAL := all
else
SETUP     := setup
.DEFAULT_GOAL := help
endif
.PHONY: help all installcheck setup setup-test setup-bench setup-deb build scripts demo picture test test-pg test-citus install uninstall psql torture bench figures fuzz miri deb check-deb reference clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: PostgreSQL of PG (15) with its headers, clang
	@tests/setup

setup-test: setup ## setup, and what the tests alone need: sudo, cargo-pgrx
	@tests/setup test

setup-bench: setup
	@tests/setup bench

setup-deb: setup
	@tests/setup deb

build: $(SETUP)
	@$(CARGO) build --quiet --release --lib $(FLAGS) --no-default-features --features pg$(PG)

all: build

demo: build ## the whole story on a private PostgreSQL (DEMO_SECONDS=20, DEMO_INPUT=access log)
	@$(LAB) demo

picture: build ## the demo again, drawn for the README: docs/story.svg
	@DEMO_PICTURE=docs/story.svg $(LAB) demo

test: setup-test ## every check and test; the last line is "N passed, N failed, N skipped"
	@tests/run

test-pg: ## make test on PG=17 or 18, in a chroot of the Debian that has it; needs root and debootstrap (STEPS="regression clusters alone")
	@tests/elsewhere $(STEPS)

scripts:
	@sql/assemble $(SCRIPTS)

install: build scripts ## install into the PostgreSQL of PG_CONFIG (honours DESTDIR)
	install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	install -m 644 $(LIBRARY) "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/hll.so"
	install -m 644 hll.control $(SCRIPTS)/hll--*.sql "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/"

uninstall: scripts ## remove what install put there
	rm -f "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/hll.so"
	rm -f "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/hll.control"
	cd $(SCRIPTS) && for script in hll--*.sql; do rm -f "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/$$script"; done

test-citus: build ## the tests of a Citus cluster, where the PostgreSQL of PG_CONFIG has Citus (SECONDS=20 of torture)
	@TORTURE_SECONDS=$(or $(SECONDS),20) $(CARGO) test --quiet --profile programs -p hll-tests --test clusters --test alone -- citus --nocapture

# Over an installed extension, in the database that psql finds by its variables.
installcheck:
	psql -X -q -v ON_ERROR_STOP=1 -f debian/check-story.sql

psql: build ## a private cluster with the extension, and a prompt
	@$(LAB) psql

torture: build ## the random mix with processes killed, and rows by every road, for SECONDS (60) each (SEED=N), and 10,000 queries (QUERIES=N) with rewriting and without; must end with 0 mismatches
	@TORTURE_SECONDS=$(or $(SECONDS),60) REWRITE_QUERIES=$(or $(QUERIES),10000) $(if $(SEED),TORTURE_SEED=$(SEED) REWRITE_SEED=$(SEED)) $(CARGO) test --quiet --profile programs -p hll-tests --test clusters -- torture::torture roads:: rewrite_random:: --skip citus --nocapture --test-threads=1

bench: setup-bench build ## measure beside the C extension and plain SQL; writes docs/bench (BENCH="sketch accuracy counters percentiles rollup series rewriting many inserts")
	@$(LAB) bench -- $(BENCH)

figures: ## draw docs/bench and the README's charts anew of docs/bench/figures.json
	@$(LAB) figures

# The compiler's address sanitizer is not stable yet, hence the variable.
fuzz: ## hostile bytes under the address sanitizer (SECONDS=60); needs cargo-fuzz
	@for crate in sketch ddsketch; do (cd crates/$$crate && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run stored -- -max_total_time=$(or $(SECONDS),60) -max_len=4096) || exit 1; done

miri: ## the crate of rollups under Miri, with fewer cases; needs a nightly toolchain with Miri
	@MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --quiet -p hll-rollup --lib --test exactly_once --test levels --test statements

deb: setup-deb ## the Debian package of PG and its debug symbols, reproducibly, into target/deb
	@debian/build

check-deb: deb ## install that package in a clean chroot, use it, purge it; needs root and debootstrap
	@debian/check

reference: build ## write docs/reference.md and the table of settings, from what the extension says of itself
	@$(LAB) reference

clean: ## remove everything that was built
	$(CARGO) clean $(if $(USE_PGXS),--quiet --package hll)
