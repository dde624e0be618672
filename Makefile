# Each target sets up .venv itself; `make demo` and `make test` each work as the only command on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.DEFAULT_GOAL := help
.PHONY: docs help system system-browser install demo test test-all test-faults fuzz bench-smoke lint types imports check clean

help:
	@echo "make demo       prepare, train, generate and score the built-in chairs and cars (15 minutes, no GPU)"
	@echo "make test       the test suite (make test-all: with the slow tests)"
	@echo "make test-faults   kills, signals, full disks and damaged files, 50 tries of each; prints what was lost or wrong"
	@echo "make fuzz       fuzzes every reader of files and links for FUZZ_SECONDS (600); prints executions and findings"
	@echo "make check      lint, types and import direction"
	@echo "make bench-smoke   every benchmark once at a small size, to check its results (no time is asserted)"
	@echo "make docs       the documentation site in build/site, with the API reference; a broken link is an error"
	@echo "make install    the von command in $(VENV); on Debian and Ubuntu missing system libraries too"
	@echo "make system-browser   chromium, for the browser tests of the HTML pages"

system:
	@PYTHON=$(PYTHON) scripts/system_libraries.sh install

system-browser:
	@scripts/system_libraries.sh browser

$(VENV)/.installed: pyproject.toml
	@PYTHON=$(PYTHON) scripts/system_libraries.sh install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/von demo $(DEMO)
	cd $(DEMO) && ../$(BIN)/von prepare shapenet
	cd $(DEMO) && ../$(BIN)/von prepare images
	cd $(DEMO) && ../$(BIN)/von train --class chair
	cd $(DEMO) && ../$(BIN)/von evaluate --fid --all-checkpoints
	cd $(DEMO) && ../$(BIN)/von generate --overwrite
	@echo
	@echo "To explore the model:   cd $(DEMO) && ../$(BIN)/von serve --open"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --hypothesis-profile=explore

test-faults: $(VENV)/.installed-dev
	VON_FAULT_TRIES=$${VON_FAULT_TRIES:-50} $(BIN)/python -m pytest tests/faults

# Coverage-guided if atheris has a wheel for this Python, else random. The corpus is kept, so a later run continues.
fuzz: $(VENV)/.installed-dev
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet --only-binary :all: atheris || true
	$(BIN)/python -m tests.fuzz --seconds $${FUZZ_SECONDS:-600} --corpus build/fuzz

bench-smoke: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks --smoke

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy ignores the import hooks of editable installs; these links give the folders the names they are installed under.
types: $(VENV)/.installed-dev
	@mkdir -p $(VENV)/typing
	@ln -sfn ../../cli $(VENV)/typing/voncli
	@ln -sfn ../../manifests $(VENV)/typing/vonmanifests
	MYPYPATH=$(VENV)/typing $(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open build/site/index.html"

check: lint types imports

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
