# The front door: `make help` lists the targets.
PG        ?= 15
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config
export PG PG_CONFIG
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)

CARGO     ?= cargo
LIBRARY   := target/release/libhll.so
SCRIPT    := target/hll--3.0.0.sql
LAB        = $(CARGO) run --quiet --release -p hll-lab --bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-test build script demo test install uninstall psql bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: PostgreSQL of PG (15) with its headers, clang
	@tests/setup

setup-test: setup ## setup, and what the tests alone need: sudo, cargo-pgrx
	@tests/setup test

build: setup
	@$(CARGO) build --quiet --release --lib --no-default-features --features pg$(PG)

demo: build ## the whole story on a private PostgreSQL (DEMO_SECONDS=20, DEMO_INPUT=access log)
	@$(LAB) demo

test: setup-test build ## every check and test; the last line is "N passed, N failed"
	@tests/run

script:
	@mkdir -p target
	@{ echo '\echo Use "CREATE EXTENSION hll" to load this file. \quit'; cat sql/hll.sql sql/more.sql sql/counters.sql sql/rollup.sql; } > $(SCRIPT)

install: build script ## install into the PostgreSQL of PG_CONFIG (honours DESTDIR)
	install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	install -m 644 $(LIBRARY) "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/hll.so"
	install -m 644 hll.control $(SCRIPT) "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/"

uninstall: ## remove what install put there
	rm -f "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/hll.so"
	rm -f "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/hll.control"
	rm -f "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension/hll--3.0.0.sql"

psql: build ## a private cluster with the extension, and a prompt
	@$(LAB) psql

bench: build ## measure
	@$(LAB) bench

clean: ## remove everything that was built
	$(CARGO) clean
