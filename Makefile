# `make demo` and `make test` include the set-up; `make PYTHON=/path/to/python3.12 ...` chooses the interpreter.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 10 ] && echo 10 || echo $$n)
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)
# From Python 3.12 on, coverage uses sys.monitoring, which is faster than a trace function.
MEASURED = COVERAGE_CORE=$$(.venv/bin/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')
# With ARGS only some of the tests run, so no minimum of coverage is required.
COVERAGE = $(if $(ARGS),,--cov=mmdet --cov-report=json:.pytest_cache/coverage.json --cov-fail-under=90)
OPS_SOURCES = compile.sh setup.py $(shell find mmdet/ops -path '*csrc*' -type f)

.PHONY: help setup demo test coverage lint docs clean

help:
	@echo "make demo      test the shipped model, then train and test a small one (on the CPU, some minutes)"
	@echo "make test      run the tests and require 90 % coverage of mmdet; ARGS='tests/apis -x' chooses some of them"
	@echo "make coverage  run the tests and print the coverage of every file"
	@echo "make lint      run ruff and mypy"
	@echo "make docs      build the documentation as a site in site/ (in an environment of its own, .venv_docs)"
	@echo "make setup     create .venv and install the packages"
	@echo "make clean     remove .venv and the output of make demo, make docs and compile.sh"

setup:
	@cmp -s env_pip.txt .venv/env_pip.installed || PYTHON="$(PYTHON)" tools/setup_env.sh

# If the custom operator cannot be compiled, it runs as plain PyTorch, and so do its tests.
.venv/ops.built: $(OPS_SOURCES) | setup
	@./compile.sh || echo "make: continuing without the compiled operator"
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

# The packages of the extra `docs`; they read the docstrings without importing the project or its dependencies.
.venv_docs/installed: pyproject.toml
	@$(or $(PYTHON),python3) -m venv .venv_docs
	@.venv_docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv_docs/requirements.txt
	@.venv_docs/bin/python -m pip install --disable-pip-version-check --quiet -r .venv_docs/requirements.txt
	@touch $@

docs: .venv_docs/installed
	@NO_MKDOCS_2_WARNING=1 .venv_docs/bin/python -m mkdocs build --quiet
	@echo "The documentation is in site/index.html"

clean:
	rm -rf .venv .venv_docs site demo_output build mmdet/ops/*/*.so
