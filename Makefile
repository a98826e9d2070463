# Two commands do everything on a fresh machine: `make serve` and `make test`.
# Needed beforehand: Python 3.11+ with venv, a C library, and a package registry.
#
#   make serve ARGS="--mode throughput"    passes options on
#   TORCH_INDEX=URL make serve             takes torch's CPU wheel from that index
#   make soak SOAK_S=1200 ONLY="R1 R8"     keeps promises under faults (see docs/operations.md)
#   make interop ONLY="kserve curl"       asks with two of other people's clients
#   make fuzz FUZZ_S=600                   looks for messages and pictures that do harm
#   PYTHON=python3.12 make serve           chooses the interpreter

PYTHON ?= python3
ARGS ?=
SOAK_S ?= 3600
FUZZ_S ?= 60
ONLY ?=
BIN := .venv/bin
# The constraints pin every version of every extra.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
       --constraint requirements.lock $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help serve test check tiers timing unit process environments e2e interop soak fuzz bars mlperf compare peers ladder configuration doctor-page protos lock allocator clean ipex

help: ## what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

serve: .venv/serve.stamp allocator ## installs what is missing, prepares the model, serves
	@exec $(BIN)/corral serve $(ARGS)

test: check tiers timing ## the strict check and all tests

check: .venv/dev.stamp ## format, lint, types, walls between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_building.py

# Each of some thousand processes would compile all of corral anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := CORRAL_OFFLINE=1 $(BIN)/python -m pytest -q
# Half of the time a test waits for a server: more of them at once than there are cores. Engines' threads
# wait for one another while they compute: of their tests as many as there are cores.
SIDE_BY_SIDE := --numprocesses 4 --dist worksteal
ENGINES_BESIDE := --numprocesses 2 --dist worksteal
TIERS := tests/e2e tests/environments tests/process tests/unit

# What the check runs is left out.
tiers: .venv/dev.stamp allocator ## the four tiers of tests below
	$(PYTEST) -m "not timing and not long" $(ENGINES_BESIDE) tests/e2e
	$(PYTEST) -m "not timing and not long" $(SIDE_BY_SIDE) --ignore tests/unit/test_building.py \
	    tests/environments tests/process tests/unit

.PHONY: long
long: .venv/dev.stamp allocator ## the tests of the tiers that take long, and those of the tools that measure
	$(PYTEST) -m long $(ENGINES_BESIDE) $(TIERS)

timing: .venv/dev.stamp allocator ## what hangs on nothing else running: hostile clients and the others' p99
	$(PYTEST) -m "timing and not long" tests/process tests/unit/frontend

unit: .venv/dev.stamp ## pure logic, milliseconds
	$(PYTEST) $(SIDE_BY_SIDE) tests/unit

process: .venv/dev.stamp allocator ## real processes, null backend
	$(PYTEST) -m "not timing" $(SIDE_BY_SIDE) tests/process

# Namespaces need root; what the machine cannot do is skipped with its reason.
environments: .venv/dev.stamp allocator ## odd machines: namespaces, limits, closed descriptors, no network
	$(PYTEST) $(SIDE_BY_SIDE) tests/environments

e2e: .venv/dev.stamp allocator ## the real model, real clients
	$(PYTEST) $(ENGINES_BESIDE) tests/e2e

# What a registry lacks is said in a line, and skipped with that reason.
interop: .venv/dev.stamp allocator ## other people's clients, unmodified, each apart (2 GB; docs/interop.md)
	@PYTHONPATH=tests $(BIN)/python -m support.interop.install $(ONLY)
	CORRAL_OFFLINE=1 $(BIN)/python -m pytest -q tests/interop \
	    $(if $(ONLY),-k "$$(echo $(ONLY) | sed 's/ \+/- or /g; s/$$/-/')")

# Balancers and container tools come from the system's packages; what is missing is skipped with its reason.
.PHONY: deployment image
deployment: .venv/deployment.stamp allocator ## the files of deploy/: Helm's schemas, balancers, containers (8 min)
	CORRAL_OFFLINE=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -s tests/deployment

# Chromium comes from the system's packages; without it the tests are skipped with that reason.
.PHONY: console
console: .venv/browser.stamp allocator ## the page at / in Chromium: dark and light, phone, keyboard (1 min)
	CORRAL_OFFLINE=1 $(BIN)/python -m pytest -q -rs tests/console

BUILDER ?= $(shell command -v podman || command -v docker || echo podman)
IMAGE ?= corral
IMAGE_ARGS ?=
# Podman's own format knows no HEALTHCHECK, and leaves it out.
image: ## builds a container's image (IMAGE_ARGS="--build-arg PREPARE=...", see deploy/Containerfile)
	$(BUILDER) build -f deploy/Containerfile $(if $(findstring podman,$(BUILDER)),--format docker) -t $(IMAGE) $(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) $(IMAGE_ARGS) .

soak: .venv/dev.stamp allocator ## every promise in its long form, an hour (SOAK_S=1200: 20 minutes)
	CORRAL_OFFLINE=1 PYTHONPATH=tests:tests/soak $(BIN)/python tests/soak/soak.py \
	    --seconds $(SOAK_S) $(if $(ONLY),--only $(ONLY))

# Each starts from seeds, and from what earlier runs found; libFuzzer's options follow the corpus.
fuzz: .venv/fuzz.stamp ## atheris on requests, then on pictures, FUZZ_S seconds each
	$(BIN)/python tests/fuzz/write_corpus.py .cache/fuzz
	$(BIN)/python tests/fuzz/fuzz_wire.py .cache/fuzz/wire -max_total_time=$(FUZZ_S) \
	    -artifact_prefix=.cache/fuzz/
	$(BIN)/python tests/fuzz/fuzz_images.py .cache/fuzz/images -max_total_time=$(FUZZ_S) \
	    -artifact_prefix=.cache/fuzz/

bars: .venv/dev.stamp allocator ## every figure with a bound, in one go (20 min)
	$(BIN)/corral-loadtest bars --output docs/benchmarks $(ARGS)

# A machine that needs longer than 15 ms for an image cannot keep the rules' bound at any rate.
mlperf: .venv/dev.stamp allocator ## MLPerf's LoadGen, all four scenarios (7 min)
	$(BIN)/corral-loadtest mlperf --serve "--backend openvino --precision int8" \
	    --latency-ms 300 --qps 8 --logs .cache/mlperf --output docs/benchmarks $(ARGS)

COMPARE_ROUNDS ?= 3
COMPARE_S ?= 5
COMPARE_ARGS ?=
PEERS_HOME ?= .cache/peers

peers: .venv/dev.stamp ## installs the servers to compare with, each apart (4 GB; TorchServe needs Java)
	$(BIN)/corral-loadtest peers install --home $(PEERS_HOME)

compare: .venv/dev.stamp allocator ## corral, other servers and the raw engine, interleaved (20 min)
	$(BIN)/corral-loadtest compare --rounds $(COMPARE_ROUNDS) \
	    --seconds $(COMPARE_S) --home $(PEERS_HOME) $(COMPARE_ARGS)

ladder: .venv/dev.stamp allocator ## every optimization of the article, measured here (15 min)
	$(BIN)/corral ladder --weights synthetic --out docs/benchmarks $(ARGS)

configuration: .venv/dev.stamp ## writes docs/configuration.md and the chart's schema from the settings
	$(BIN)/python -m corral.cli.configuration_page docs/configuration.md
	$(BIN)/python -m corral.cli.settings_schema deploy/helm/corral/values.schema.json

doctor-page: .venv/dev.stamp ## writes the table of checks into docs/doctor.md
	$(BIN)/python -m corral.doctor.catalog_page docs/doctor.md

protos: .venv/dev.stamp ## generates protos/corral_protos from open_inference.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py

lock: .venv/dev.stamp ## resolves pyproject.toml anew into requirements.lock
	$(BIN)/python -m pip install --quiet uv
	# One line for torch, without local version: its CPU wheel needs nothing of CUDA's.
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --universal --python-version 3.11 \
	    --extra serve --extra hardening --extra trace --extra openvino --extra torch --extra onnxruntime \
	    --extra loadtest --extra ladder --extra dev --extra fuzz --extra deployment --extra browser \
	    pyproject.toml \
  | grep -Ev '^(nvidia-|cuda-|triton==)' \
	  | sed 's/^torch==\([0-9.]*\).*/torch==\1/' | uniq > requirements.lock.new
	mv requirements.lock.new requirements.lock

allocator:
	@deploy/ensure-allocator

ipex: .venv-ipex/stamp ## an environment with IPEX 2.8 and its torch, for --worker-python

clean: ## removes the environment and the caches of this checkout
	rm -rf .venv .venv-ipex .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "corral needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	@echo "creating .venv" >&2
	@$(PYTHON) -m venv .venv

.venv/serve.stamp: .venv/bin/python pyproject.toml requirements.lock
	@echo "installing the server (torch and OpenVINO: a few hundred MB the first time)" >&2
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[serve,hardening,openvino,torch]'
	@touch $@

# torch 2.8 is the CUDA build, which is not even imported without CUDA's libraries (see the lock);
# a CPU wheel from TORCH_INDEX needs none of them.
.venv-ipex/stamp: requirements-ipex.lock
	@$(PYTHON) -m venv .venv-ipex
	@echo "installing IPEX 2.8 and torch 2.8 (3 GB to download, 5.8 GB on disk, unless TORCH_INDEX is set)" >&2
	@sed '$(if $(TORCH_INDEX),/^nvidia-/d)' requirements-ipex.lock > .venv-ipex/requirements.txt
	@.venv-ipex/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --requirement .venv-ipex/requirements.txt
	@touch $@

.venv/dev.stamp: .venv/serve.stamp
	@echo "installing the tools for tests" >&2
	@$(PIP) --no-build-isolation \
	    --editable '.[serve,hardening,trace,openvino,torch,onnxruntime,loadtest,ladder,dev]'
	@touch $@

.venv/deployment.stamp: .venv/dev.stamp
	@$(PIP) --no-build-isolation \
	    --editable '.[serve,hardening,trace,openvino,torch,onnxruntime,loadtest,ladder,dev,deployment]'
	@touch $@

.venv/browser.stamp: .venv/dev.stamp
	@$(PIP) --no-build-isolation \
	    --editable '.[serve,hardening,trace,openvino,torch,onnxruntime,loadtest,ladder,dev,browser]'
	@touch $@

.venv/fuzz.stamp: .venv/dev.stamp
	@$(PIP) --no-build-isolation \
	    --editable '.[serve,hardening,trace,openvino,torch,onnxruntime,loadtest,ladder,dev,fuzz]'
	@touch $@
