# Everything runs in .venv, built once from pyproject.toml and constraints.txt. `make help` lists the targets.

PYTHON ?= python3
EXTRAS ?=
CONFIG ?= configs/digits.py
ARGS ?=
WORKERS ?= 3

# A file's tests run in one worker, which makes their fixtures and compiles their programs once; files in their order.
SPREAD := --dist loadfile --no-loadscope-reorder

VENV := .venv
TORCH := benchmarks/.venv-torch
GPU_AOT := .gpu-aot
ON_GPU := tests/models/test_norm.py tests/models/test_layers.py tests/models/test_models.py \
  tests/models/test_golden_resnet20.py tests/models/conv/test_conv.py \
  tests/models/conv/test_implementations.py tests/methods tests/protocol tests/engine/test_learner.py \
  tests/engine/test_fleet.py tests/engine/test_evaluation.py
NATIVE := scarlet_jax/models/conv/native
BIN := $(VENV)/bin
comma := ,
STAMP := $(VENV)/.installed-$(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all test-gpu test-gpu-aot check wheel bench bench-gpu

help:  ## list the targets
	@echo "make run    train the embedded experiment (scikit-learn's digits, no download); again: resume or print the summary"
	@echo "make test   run the tests but for those that take long, some minutes"
	@echo "make test-all  run all tests (TFDS_DATA_DIR=DIR lets those that need CIFAR run)"
	@echo "make test-gpu-aot  compile the program for GPUs, without one, and look at the result (downloads 350 MB)"
	@echo "make test-gpu      run the kernels, models, learner and methods on an NVIDIA GPU (EXTRAS=cuda12 or cuda13)"
	@echo "make check  lint, formatting, types, and which way imports go"
	@echo "make wheel  build the package into dist/"
	@echo "make bench  measure speed as ratios, half an hour (ARGS='round start' for some; TFDS_DATA_DIR=DIR for those with CIFAR)"
	@echo "make bench-gpu  measure everything on an NVIDIA GPU, five minutes (ARGS='--seconds=300')"
	@echo "make setup  only build $(VENV); EXTRAS=cuda12 for NVIDIA GPUs, EXTRAS=cuda12,wandb for several"
	@echo
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer), CONFIG=$(CONFIG) and ARGS='--config.rounds=5' for make run, WORKERS=$(WORKERS)"

setup: $(STAMP)  ## build .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "scarlet_jax needs Python 3.11 or newer, and '$(PYTHON)' is not: name one with 'make PYTHON=python3.12 ...'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' comes without venv or ensurepip: install them (Debian and Ubuntu: the package python3-venv)." >&2; exit 1; }
	@# An environment that another Python built, or that was never finished, is built anew.
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): once, a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e ".[test$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	@touch "$@"

run: $(STAMP)  ## train the embedded experiment
	$(BIN)/python launch.py --config=$(CONFIG) $(ARGS)

test: $(STAMP)  ## run the tests that take a short time
	$(BIN)/python -m pytest -n $(WORKERS) $(SPREAD) -m "not long" $(ARGS)

test-all: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest -n $(WORKERS) $(SPREAD) $(ARGS)

# Products of float32 are exact here: the tests' tolerances and golden numbers are float32's, not TF32's.
test-gpu: $(STAMP)  ## run what a GPU computes on one
	JAX_PLATFORMS=cuda JAX_DEFAULT_MATMUL_PRECISION=highest XLA_PYTHON_CLIENT_PREALLOCATE=false \
	  $(BIN)/python -m pytest tests/on_gpu $(ON_GPU) $(ARGS)

# XLA's compiler for GPUs, beside $(VENV) and not in it: each process that finds it there spends a second on it.
# The rehearsal of the benchmark needs no such compiler: test-all runs it.
test-gpu-aot: $(STAMP) $(GPU_AOT)/.installed  ## compile for GPUs
	PYTHONPATH=$(GPU_AOT) $(BIN)/python -m pytest -n 2 tests/gpu --ignore=tests/gpu/test_bench.py $(ARGS)

$(GPU_AOT)/.installed: constraints.txt
	rm -rf $(GPU_AOT)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --target $(GPU_AOT) \
	  jax-cuda12-pjrt jax-cuda12-plugin jax-triton triton
	@touch "$@"

bench-gpu: $(STAMP)  ## measure on a GPU
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# build/ is setuptools' own, and what it holds from before would get into the wheel.
wheel: $(STAMP)  ## build the package
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

bench: $(STAMP) $(TORCH)/.installed  ## measure speed
	$(BIN)/python -m benchmarks $(ARGS)

$(TORCH)/.installed: benchmarks/requirements-torch.txt
	$(PYTHON) -m venv --clear $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch "$@"

check: $(STAMP)  ## lint, formatting, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)/*.h $(NATIVE)/*.cc
	@# The kernels against plain loops over random shapes, watched by the address and undefined-behaviour sanitizers.
	@if command -v $(CXX) >/dev/null; then d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && \
	  $(CXX) -std=c++17 -O1 -g -Wall -Wextra -Wpedantic -Werror -Wno-ignored-attributes -Wno-psabi \
	    -fsanitize=address,undefined -fno-sanitize-recover=all $(NATIVE)/check.cc -o "$$d/check" && "$$d/check" 400; \
	else echo "no C++ compiler: the native kernels were not checked"; fi
