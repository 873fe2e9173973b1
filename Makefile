# Everything a newcomer or a machine needs to do here. `make` alone lists it.
# Needs make and Python 3.11 or newer; the rest is installed into .venv, and system packages by `make system-deps`.

# Which Python makes .venv; without a word the first of python3, python3.11 ... that is new enough.
PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo run test test-fast test-long check docs bench system-deps lock clean
.SUFFIXES:

help: ## this list
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1    \2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## one whole call on real sockets, shown as a ladder; exit 0 only if all of it happened
	$(BIN)/sip-bridge demo $(ARGS)

run: $(VENV)/.run ## the demo's bridge and application, staying up, ready for a real phone
	$(BIN)/sip-bridge demo --stay $(ARGS)

test: system-deps check ## checks and all tests, ring by ring, each within its time (at most 12 minutes together)
	@rm -rf $(VENV)/rings
	.ci/ring unit     230 -n 3 --dist loadgroup --ignore tests/docs -m "not interop and not chaos and not slow"
	.ci/ring interop  200 -n 3 --dist loadfile -m "interop and not load and not slow"
	.ci/ring chaos    140 -n 3 --dist loadfile -m "chaos and not load and not slow"
	.ci/ring load     150 -m "load and not slow"
	@echo "All rings:" && tail -q -n 1 $(VENV)/rings/*.log

test-fast: $(VENV)/.dev ## the inner loop: no SIP peers, no killed processes, no packaging, under a minute
	.ci/ring fast      60 -n 2 -x --ignore tests/docs -m "not interop and not chaos and not packaging and not slow" $(ARGS)

test-long: $(VENV)/.dev system-deps ## minutes to hours: many seeds, the whole chaos table, long fuzzing
	.ci/ring long   14400 -m slow $(ARGS)

check: $(VENV)/.dev ## lint, format, types, the direction of imports, the documentation's examples
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -d tests/docs ]; then .ci/ring docs 60 tests/docs; fi

docs: $(VENV)/.dev ## write anew what docs/ and helm/ have from the code: keys, errors, metrics, the schema
	$(BIN)/python -m tests.docs.generated
	$(BIN)/python -m tests.packaging.generated

bench: $(VENV)/.dev system-deps ## the yardsticks of quality.md: CPU per call, memory, growth, survival; a table, and JSON beside it
	$(BIN)/python -m benchmarks $(ARGS)

system-deps: ## the programs of the tests (redis-server, SIPp, baresip, Kamailio, Node with JsSIP; helm); installed where we may
	@.ci/system-deps
	@.ci/helm
	@.ci/jssip

lock: $(VENV)/.made ## write requirements.lock anew: the newest versions that pyproject.toml allows
	.ci/lock $(BIN)/python

clean: ## remove what make has made; ./data, where a bridge may have its calls, stays
	rm -rf $(VENV) .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets stand on -----------------------------------------------------------------------------------------

$(VENV)/.made:
	@.ci/venv "$(PYTHON)" $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[embedded,examples]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[embedded,examples,dev]'
	@touch $@ $(VENV)/.run
