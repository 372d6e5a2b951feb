# Each target does its own set-up, in a virtual environment (.venv). Nothing outside this folder is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
EPITOME ?=
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder
DEMO_SET := $(if $(EPITOME),--set data.epitome=$(EPITOME))

.PHONY: bench-arena bench-front bench-changes demo demo-full test test-all lint clean help bench-kill bench-finding bench-coverage bench-persons bench-rewards bench-stats bench-audit bench-train bench-train-gpu bench-flops bench-resident bench-generate bench-generate-gpu bench-ops bench-page bench-judge-pace bench-judge-rules bench-judge-kill bench-sequential docs study-file fidelity
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

demo: $(VENV)/installed  ## the whole study, small, offline; EPITOME=FILE takes the real posts
	@$(BIN)/modpo run configs/demo.yaml --run $(RUN) $(DEMO_SET)

demo-full: $(VENV)/installed  ## the same with every criterion and policy of the paper, four times the work
	@$(BIN)/modpo run configs/demo-full.yaml --run $(RUN)-full $(DEMO_SET)

# The checks run beside the tests, whose jobs of Slurm leave a core idle now and then; what they say comes last.
test: $(VENV)/tested  ## every check, and a test for every contract
	@$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & lint=$$!; \
	$(PYTEST) -m "not slow"; tests=$$?; \
	wait $$lint; checks=$$?; cat $(VENV)/lint.log; exit $$((tests + checks))

test-all: test  ## make test, then what is dear and rare: whole studies, kills of whole runs, clusters over nodes
	$(PYTEST) -m slow

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: setup.cfg constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

bench-finding: $(VENV)/installed  ## MODPO and its placebos in the sandbox, five seeds, each as it comes out
	$(BIN)/python tests/bench/sandbox_finding.py --study configs/demo-full.yaml --seeds 1 2 3 4 5

bench-arena: $(VENV)/tested  ## every method over several criteria on the same pairs, one table; some minutes
	$(BIN)/python -m tests.bench.arena

bench-coverage: $(VENV)/installed  ## do intervals of 95% cover 95%? A grid of designs drawn anew
	$(BIN)/python -m tests.bench.coverage --table docs/statistics.md

bench-kill: $(VENV)/installed  ## ten kills of a whole run, then every table byte for byte
	$(BIN)/python tests/bench/kill.py --kills 10

bench-audit: $(VENV)/installed  ## coverage and width of the audit's intervals where the truth is known
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.audit

bench-persons: $(VENV)/tested  ## a thousand simulated studies of personal answers a line: false alarms, detection, safety
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.persons

bench-changes: $(VENV)/tested  ## seventeen changes to a finished study: what is made again, and that the bytes are right
	$(BIN)/python -m tests.bench.changes

bench-front: $(VENV)/installed  ## one adapter for every weight beside the exact soup of two specialists, five seeds
	$(BIN)/python -m tests.bench.front

bench-train: $(VENV)/tested  ## a DPO pair here and in TRL, Joint-Loss DPO here and padded; EPITOME=FILE
	EPITOME=$(EPITOME) $(BIN)/python -m tests.bench.train

bench-train-gpu: $(VENV)/tested  ## the same on one 80 GB GPU at the size of Mistral-7B
	EPITOME=$(EPITOME) $(BIN)/python -m tests.bench.train_gpu

bench-flops: $(VENV)/tested  ## what shared prompts save at the size of Mistral-7B, counted, for each method
	EPITOME=$(EPITOME) $(BIN)/python -m tests.bench.train_flops

bench-resident: $(VENV)/tested  ## six policies on one resident base, beside a process each: CPU time, loads, bytes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.resident

bench-rewards: $(VENV)/tested  ## reward models beside TRL, scoring beside one at a time
	$(BIN)/python -m tests.bench.rewards

bench-stats: $(VENV)/tested  ## all statistics of 1.26 million verdicts, beside a pandas and statsmodels loop
	$(BIN)/python -m tests.bench.stats

bench-page: $(VENV)/installed  ## the report's page and its cases at 1.26 million verdicts: size, time to make, to open
	$(BIN)/python -m tests.bench.page

bench-generate: $(VENV)/installed  ## tokens a second against one question at a time and fixed batches
	$(BIN)/python tests/bench/generate.py

bench-generate-gpu: $(VENV)/installed  ## the same in Mistral-7B's shape against fixed batches; one GPU of 80 GB
	$(BIN)/python tests/bench/generate.py --shape mistral-7b --rows 64 --max-tokens 512 --mean-tokens 250 --questions 64

bench-judge-pace: $(VENV)/tested  ## calls a second at 200 ms and 128 at once, beside a loop and Ray Data's HTTP processor
	$(BIN)/python -m tests.bench.judge_pace

bench-judge-rules: $(VENV)/tested  ## 1.26 million verdicts of the rule judge, end to end
	$(BIN)/python -m tests.bench.judge_rules

bench-judge-kill: $(VENV)/tested  ## 20 kills of driver, actor, endpoint and Ray head in 20,000 verdicts
	$(BIN)/python -m tests.bench.judge_kill

bench-sequential: $(VENV)/installed  ## sequential judging: a finished demo (RUN=DIR) replayed, 1,000 studies under the null
	$(BIN)/python -m tests.bench.sequential $(RUN)

bench-ops: $(VENV)/installed  ## status of 5,000 shards, 1,000 array tasks through submit, modpo --help; on the test bed
	$(BIN)/python -m tests.bench.ops

docs: $(VENV)/documented  ## pages of every module from the docstrings, in build/api
	$(BIN)/python -W error -m pdoc --docformat google --output-directory build/api modpo_hpc
	@echo "open build/api/index.html"

$(VENV)/documented: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

study-file: $(VENV)/installed  ## make docs/study-file.md anew from the study's fields
	$(BIN)/python -m modpo_hpc.study.describe > docs/study-file.md

fidelity: $(VENV)/installed  ## make docs/fidelity.md anew; fails where configs/paper.yaml is not what the table says
	$(BIN)/python -m modpo_hpc.study.fidelity > docs/fidelity.md

clean:  ## remove the virtual environment and the demo run
	rm -rf $(VENV) runs
