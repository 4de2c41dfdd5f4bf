# Every job of the project is one target. Set-up happens by itself, once, and again when a file that it depends on changes.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
  BIN := .venv/Scripts
else
  BIN := .venv/bin
endif
PY := $(BIN)/python
READY := .venv/ready
# node, npm and the Jupyter commands of the environment come first
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: lab test test-all notebooks slides figures bench claims recorded assignment colab
.DEFAULT_GOAL := lab

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, $(PYTHON) is ' + sys.version.split()[0])"
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments here: install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(READY)

lab: $(READY)  ## open JupyterLab on the notebooks
	$(PY) -m jupyterlab notebooks $(LAB_ARGS)

# two at a time, a thread each; what shares a fixture that takes long stays together, and the largest of that comes first
test-all: WHICH := -m "again or not again"
test-all: export PROPERTIES := 150
test test-all: export OMP_NUM_THREADS := 1
test: $(READY)  ## units, each notebook once, widgets and slides in a browser, one notebook as JupyterLab and Colab run it
test-all: $(READY)  ## the same, and what runs notebooks again or kills processes; random draws, and many
test test-all:
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	npx --yes @biomejs/biome@2.6.8 ci --error-on-warnings lecture_lib
	$(PY) -m pytest -n 2 --dist loadscope $(WHICH) $(TEST_ARGS)
	$(PY) -m pytest -n 2 --dist loadfile --nbval-lax notebooks

notebooks: $(READY)  ## execute the sources, write the notebooks
	$(PY) notebooks/build.py execute

slides: $(READY)  ## the decks, the talk and PDF handouts, into build/slides
	$(PY) -m lecture_lib.slides notebooks build/slides

figures: $(READY)  ## the pictures of figures/, from the executed notebooks
	$(PY) notebooks/build.py figures

bench: $(READY)  ## measure side by side with peers, record in benchmarks/results.json and results.png
	$(PY) benchmarks/run.py $(BENCH_ARGS)

claims: $(READY)  ## SEEDS=10: how often does each claim of the notebooks hold under other seeds?
	$(PY) notebooks/claims.py $(NAMES) --seeds $(or $(SEEDS),10)

recorded: $(READY)  ## NAMES=...: run anew what takes longer than a notebook, write lecture_lib/recorded/NAME.json
	$(PY) -m lecture_lib.recorded $(NAMES)

assignment: $(READY)  ## copies for students, without solutions and answers, into build/assignment
	$(PY) notebooks/build.py assignment

colab: $(READY)  ## REPO=owner/name stamps badges and first cells, REPO= takes them off
	$(PY) notebooks/build.py stamp "$(REPO)"
