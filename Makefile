# novakube. `make help` lists what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export PYTHONSAFEPATH := 1
# benchmarks and tests are packages of the clone, not of the installed project.
export PYTHONPATH := $(CURDIR)
PYTHON := .venv/bin/python
LOCAL := $(PYTHON) -m novakube_local
SOURCES := crds operator agents api local images scripts tests benchmarks

# Of the command line only: `eval "$(make -s env)"` puts the cloud's own KUBECONFIG into the shell.
ifneq ($(filter command line,$(origin KUBECONFIG)),)
CLUSTER := --kubeconfig $(KUBECONFIG)
endif
ifneq ($(NODES),)
NODE_COUNT := --nodes $(NODES)
endif
ifneq ($(DRIVER),)
NODE_DRIVER := --driver $(DRIVER)
endif

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

.PHONY: bootstrap
bootstrap: ## packages, virtualenv and programs of the control plane (up does it itself)
	@scripts/bootstrap.sh

.PHONY: up
up: ## local cloud with a first machine [NODES=n] [DRIVER=fake] [TOKEN_LIFE=s] [KUBECONFIG=file]
	@scripts/bootstrap.sh
	@scripts/as-root.sh $(LOCAL) up $(NODE_COUNT) $(NODE_DRIVER) $(CLUSTER)

.PHONY: images
images: ## container images of all components, into .local/container-images [BASE=image]
	@scripts/bootstrap.sh cluster
	@scripts/as-root.sh env $(if $(BASE),BASE=$(BASE)) $(LOCAL) images

.PHONY: cluster
cluster: ## a cluster with kubelets for helm install, images imported [NODES=n] [BASE=image]
	@scripts/bootstrap.sh cluster
	@scripts/as-root.sh env $(if $(BASE),BASE=$(BASE)) $(LOCAL) cluster $(NODE_COUNT)

.PHONY: kind
kind: ## the chart in a cluster of kind: install, test, upgrade, uninstall; needs Docker and kind
	@scripts/kind.sh

.PHONY: down
down: ## end the local cloud or cluster and remove its traces
	@test ! -x $(PYTHON) || scripts/as-root.sh $(LOCAL) down

.PHONY: env
env: ## shell text for eval "$(make -s env)": KUBECONFIG, PATH
	@$(LOCAL) env

.PHONY: status
status: ## processes, nodes and instances of the local cloud
	@scripts/as-root.sh $(LOCAL) status

.PHONY: logs
logs: ## log of a process [NAME=operator]; without NAME the list of logs
	@scripts/as-root.sh $(LOCAL) logs $(NAME)

.PHONY: check
check: ## ruff, mypy, import contracts, verify
	$(PYTHON) -m ruff check $(SOURCES)
	$(PYTHON) -m ruff format --check $(SOURCES)
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) scripts/verify.py

# Not in .local: the tests' `make down` empties that.
RECORD := .records/test.json
.PHONY: test
test: bootstrap check ## everything a change must pass (installs what it needs)
	@rm -f $(RECORD)
	KUBEBUILDER_ASSETS=$${KUBEBUILDER_ASSETS:-$(CURDIR)/.local/bin} \
		$(PYTHON) -m pytest -p tests.record --record $(RECORD) tests
	$(PYTHON) scripts/verify.py --ran $(RECORD)

.PHONY: deep
deep: bootstrap ## the whole of a lane TARGET=crash|kubelet|sabotage|soak [SHARD=i/n] [TIMES=n in a row], into tests/records; goes on where it stopped
	@test -n "$(TARGET)" || { echo 'make deep: TARGET=crash, kubelet, sabotage or soak is missing' >&2; exit 2; }
	export KUBEBUILDER_ASSETS=$${KUBEBUILDER_ASSETS:-$(CURDIR)/.local/bin}; \
	for n in $$(seq $(or $(TIMES),1)); do \
		$(PYTHON) -m pytest -p tests.record --record tests/records/$(TARGET).json --resume --times $$n \
			$(if $(SHARD),--shard $(SHARD)) tests/deep/$(TARGET) || exit 1; \
	done

.PHONY: fresh
fresh: ## the README's commands in a bare Debian 12, into tests/records [KEEP=1] [FRESH_ROOT=dir]
	$(PYTHON) scripts/fresh.py

BENCH := $(if $(RATE),--rate $(RATE)) $(if $(N),--count $(N)) $(if $(NODES),--nodes $(NODES)) \
	$(if $(QUICK),--quick)
.PHONY: bench
bench: ## figures [WHAT=control-plane|scale|vm|density|cluster] [RATE=creates/s] [N=count] [NODES=simulated] [QUICK=1]
	@scripts/bootstrap.sh
	@scripts/as-root.sh $(PYTHON) -m benchmarks $(or $(WHAT),all) $(BENCH)

.PHONY: generate
generate: ## CRDs, the API reference, the table of figures, the pictures
	$(PYTHON) -m novakube_crds generate
	$(PYTHON) -m benchmarks.table
	$(PYTHON) -m scripts.pictures
	$(PYTHON) -m scripts.image_packages

.PHONY: verify
verify: ## promises, records and generated files against their sources
	$(PYTHON) scripts/verify.py
