# make demo [LANE=k2]   install, then transcribe the bundled recordings of both languages
# make test             install, then run the whole suite in both lanes (main, and k2 where Python 3.9 is)
# make check            formatting, lint, types, data files
# make format           put the code in ruff's format
# make clean            remove the environments and everything built

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check check-format check-lint check-data check-types format clean

LANE ?= main
VENV := $(shell .ci/lane venv $(LANE))
$(if $(VENV),,$(error LANE is main or k2))
ENGINE := $(if $(filter k2,$(LANE)),k2,kaldi)
PYTEST_FLAGS ?= -n auto --maxprocesses 4 --dist loadfile

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.installed-run
	@echo "[$(LANE)] $(VENV)/bin/uyir demo --engine $(ENGINE)" >&2
	@$(VENV)/bin/uyir demo --engine $(ENGINE)

test:
	@.ci/lane test $(PYTEST_FLAGS)

check: .venv/.installed-test
	@$(MAKE) --no-print-directory --keep-going --jobs 1 check-format check-lint check-data check-types
	@echo "[check] all good" >&2

check-format:
	@echo "[check] ruff format" >&2
	@.venv/bin/ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }

check-lint:
	@echo "[check] ruff" >&2
	@.venv/bin/ruff check --quiet .

check-data:
	@echo "[check] data files" >&2
	@.venv/bin/python .ci/lint_data.py
	@failed=0; for language in ta kn; do \
	  .venv/bin/uyir grammar check --language $$language >&2 || failed=1; \
	done; exit $$failed

# mypy does not follow an editable install, and the folders at the root are sub-packages of uyir:
# it gets a tree of links in the shape of the installed package.
check-types:
	@echo "[check] mypy --strict" >&2
	@.venv/bin/python .ci/link_packages.py .stamps/typed
	@cd .stamps/typed && export MYPYPATH=$$PWD && \
	  ../../.venv/bin/mypy --config-file ../../pyproject.toml -p uyir && \
	  ../../.venv/bin/mypy --config-file ../../pyproject.toml ../../.ci/*.py ../../benchmarks/*.py \
	    ../../recipes/*.py ../../recipes/*/*.py

format: .venv/.installed-test
	@.venv/bin/ruff check --quiet --fix .
	@.venv/bin/ruff format .

# What transcription needs, and then what tests and checks need besides. Made again when the
# metadata or the pins change.
.venv/.installed-run: pyproject.toml constraints.txt
	@.ci/lane install main run

.venv/.installed-test: pyproject.toml constraints.txt
	@.ci/lane install main test
	@touch .venv/.installed-run

.venv-k2/.installed-run: pyproject.toml constraints-k2.txt
	@.ci/lane install k2 run

.venv-k2/.installed-test: pyproject.toml constraints-k2.txt
	@.ci/lane install k2 test
	@touch .venv-k2/.installed-run

clean:
	rm -rf .venv .venv-k2 .stamps build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache
