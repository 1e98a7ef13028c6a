# make setup    one virtual environment in .venv/ (PSE_VENV names another place)
# make demo     the whole recipe on the embedded corpus, ending in a page to listen to
# make gallery  the demo, and its test mixtures before and after as one page: egs/librispeech_pse/gallery/index.html
# make test     every test
# make lint     style of the Python and shell files
# make bench    the measurements behind the claims in docs/
# make clean    caches of Python and of the tools; never data, models or results

SHELL := /usr/bin/env bash
PSE_VENV ?= $(CURDIR)/.venv
export PSE_VENV
PYTHON = "$(PSE_VENV)/bin/python"

.DEFAULT_GOAL := help
.PHONY: help setup demo gallery test lint bench clean

help:
	@sed -n 's/^# //p' Makefile

setup:
	@tools/setup.sh

demo: setup
	@egs/librispeech_pse/run.sh

gallery: demo
	@cd egs/librispeech_pse && $(PYTHON) ../../tools/write_mixtures.py dump/mini test gallery --overwrite
	@cd egs/librispeech_pse && "$(PSE_VENV)/bin/pse" report gallery/noisy \
	  $(foreach system,generalist pseudo_se pseudo_se_dp,exp/mini/enhanced_test/$(system)/wav) \
	  --reference gallery/clean --max_files 8 -o gallery/index.html --overwrite

test: setup
	@$(PYTHON) -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(PYTHON) -m ruff check .
	@"$(PSE_VENV)/bin/shellcheck" -x -P SCRIPTDIR tools/*.sh utils/*.sh egs/*/*.sh .ci/run

bench: setup
	@for file in benchmarks/*.py; do echo "== $$file"; $(PYTHON) "$$file" || exit; done

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis build dist
	find pse tests egs utils tools benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
