# `make demo` and `make test` do their whole set-up; `make PYTHON=/path/to/python3.12 ...` chooses the interpreter.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 10 ] && echo 10 || echo $$n)
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)
# Python 3.12 counts lines itself, faster than a tracer
MEASURED = COVERAGE_CORE=$$(.venv/bin/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
# with ARGS only some tests run, and what they leave out says nothing
COVERAGE = $(if $(ARGS),,--cov=mmdet --cov-report=json:.pytest_cache/coverage.json --cov-fail-under=90)
OPS_SOURCES = compile.sh setup.py $(shell find mmdet/ops -path '*csrc*' -type f)

.PHONY: help setup demo test coverage lint clean

help:
	@echo "make demo      AP table and pictures of the shipped model, then a training (on the CPU, in minutes)"
	@echo "make test      the tests, with the coverage of mmdet, at least 90 %; ARGS='tests/apis -x' chooses some"
	@echo "make coverage  the tests, with the coverage of every file"
	@echo "make lint      ruff and mypy"
	@echo "make setup     only .venv"
	@echo "make clean     removes .venv and what make demo and compile.sh made"

setup:
	@cmp -s env_pip.txt .venv/env_pip.installed || PYTHON="$(PYTHON)" tools/setup_env.sh

# the custom op runs as plain PyTorch where it cannot be compiled, and its tests with it
.venv/ops.built: $(OPS_SOURCES) | setup
	@./compile.sh || echo "make: going on without the compiled operator"
	@touch $@

demo: setup
	@.venv/bin/python -u tools/demo.py

test: setup .venv/ops.built
	@$(MEASURED) $(PYTEST) $(COVERAGE)

coverage: setup .venv/ops.built
	@$(MEASURED) $(PYTEST) --cov=mmdet --cov-report=term

lint: setup
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m mypy

clean:
	rm -rf .venv demo_output build mmdet/ops/*/*.so
