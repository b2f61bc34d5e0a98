# `make demo` and `make test` do their whole set-up; `make PYTHON=/path/to/python3.12 ...` chooses the interpreter.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 8 ] && echo 8 || echo $$n)
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(JOBS) --dist loadgroup

.PHONY: help setup demo test coverage lint ops clean

help:
	@echo "make demo      toy data, training, test, AP table, pictures (CPU, minutes)"
	@echo "make test      the tests"
	@echo "make coverage  the tests with a coverage report"
	@echo "make lint      ruff"
	@echo "make setup     only .venv"

setup:
	@cmp -s env_pip.txt .venv/env_pip.installed || PYTHON="$(PYTHON)" tools/setup_env.sh

demo: setup
	@.venv/bin/python -u tools/demo.py

test: setup
	@$(PYTEST)

coverage: setup
	@$(PYTEST) --cov=mmdet --cov-report=term

lint: setup
	@.venv/bin/python -m ruff check

clean:
	rm -rf .venv demo_output build
