# `make all` runs the default study from nothing, `make test` the tests.
PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
STUDY ?=
BIN = .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all test test-fast test-slurm lint docs requirements clean
all: $(BIN)/.installed
	snakemake $(if $(STUDY),--configfile studies/$(STUDY).yaml) --cores $(CORES) all

test: $(BIN)/.installed lint
	pytest -n $(CORES) --dist loadgroup -m "not slurm" tests
	pytest -m slurm tests

# These start and stop a SLURM on this machine, and are skipped without slurmctld, slurmd, slurm-client and munge.
test-slurm: $(BIN)/.installed
	pytest -m slurm tests

test-fast: $(BIN)/.installed
	pytest -n $(CORES) --dist loadgroup -m "not slow and not slurm" tests

lint: $(BIN)/.installed docs
	ruff check .
	ruff format --check .
	PYTHONPATH=src lint-imports --no-cache
	snakefmt --check Snakefile workflow
	snakemake --lint

# A broken link is an error. Not with --quiet, under which mkdocs counts no warnings.
docs: $(BIN)/.installed
	mkdocs build --strict

# requirements.txt is complete, and torchattacks' pin of an old `requests` is overridden in it. It holds setuptools, which
# installs this project: the command `unlearn` runs the sources of src/.
$(BIN)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Keeps the versions that still fit; `make requirements UPGRADE=--upgrade` takes the newest.
requirements:
	uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --extra dev --extra slurm $(UPGRADE) pyproject.toml -o requirements.txt
	sed -i '1i # Resolved from pyproject.toml by `make requirements`; install with --no-deps.' requirements.txt

clean:
	rm -rf results logs .snakemake
