# make test   everything is installed into .venv, then every test runs
# make demo   everything is installed into .venv, then the whole pipeline runs on a drawn sample

PYTHON ?= python3
BIN := .venv/bin

.PHONY: test demo lint clean

test: .venv/tests.done
	$(BIN)/python -m pytest

demo: .venv/base.done
	$(BIN)/python -m demo.run

lint: .venv/tests.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# A stamp is written last, so an install that was cut off is done again.
.venv/base.done: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/tests.done: .venv/base.done tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
	touch $@

clean:
	rm -rf .venv demo/out .pytest_cache .ruff_cache
