# make demo      install into .venv and run the whole pipeline on a drawn sample
# make test      install into .venv and run every test
# make test-gpu  install into .venv and run the tests that need a CUDA GPU
# make check     lint, types and unit tests: the quick check before a commit
# make docs      write the flag tables of docs/cli.md and docs/ko/cli.md

PYTHON ?= python3
BIN := .venv/bin
# Test processes: one more than cores, because many tests wait for a server or a signal; more than
# four want more memory than most machines have.
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(4, 1 + (os.cpu_count() or 1)))")

.PHONY: demo test test-gpu check lint types docs clean

demo: .venv/base.done
	$(BIN)/python -m demo.run

test: .venv/tests.done
	$(BIN)/python -m pytest -n $(JOBS)

# -rs names the tests that were skipped, and why.
test-gpu: .venv/tests.done
	$(BIN)/python -m pytest tests/gpu -m gpu -rs

check: lint types
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

lint: .venv/tests.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/tests.done
	$(BIN)/mypy

docs: .venv/base.done
	$(BIN)/python -m docs.generate_cli

# A stamp is written last, so that an interrupted installation is done again.
.venv/base.done: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/tests.done: .venv/base.done tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
	touch $@

clean:
	rm -rf .venv demo/out .pytest_cache .ruff_cache .mypy_cache
