# make draw PROMPT="a red apple"    draws, into the folder pictures
# make draw PROMPT="빨간 사과" OPTIONS="--n 4 --size 1024 --seed 1"
# make serve                        serves the Images API on 127.0.0.1:8000; OPTIONS="--port 9000"
# make studio                       builds the page of `make serve` anew, after a change in studio/ (needs Node.js)
# make site                         builds the documentation as a site, into build/site
# make test                         lints, checks types, runs all tests
# make test-cluster                 runs those of `--ray` (serve, train) and deploy/, in an environment of their own
# make test-wheel                   builds the wheel, installs it into an empty environment, draws and serves with it
# make licences                     lists the licences of all libraries
# make constraints                  renews constraints.txt, the versions by which CI and the image install
# make release                      checks, builds and tags the version (docs/releasing.md)
#
# All make .venv and install into it whatever is missing. Another Python: make PYTHON=python3.12 ...

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
PROMPT ?= a red apple
OPTIONS ?=
RUN = .venv/bin/python -m

# The prompt travels as an environment variable and as it was typed: quotes, dollars and Hangul mean nothing to
# make or to the shell.
unexport PROMPT
export UNCLIP_PROMPT := $(value PROMPT)

.PHONY: draw serve studio site test test-cluster test-wheel lint format docs licences constraints release clean

draw: .venv/installed
	@echo "Drawing into $(CURDIR)/pictures:"
	@$(RUN) unclip generate --out pictures $(OPTIONS) -- "$$UNCLIP_PROMPT"

serve: .venv/installed-serve
	@$(RUN) unclip serve $(OPTIONS)

studio: .venv/installed-dev
	$(RUN) unclip.serve.openapi > studio/openapi.json
	cd studio && npm ci --no-audit --no-fund && npm run types && npm run check && npm test && npm run build

site: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet
	@echo "The site is in $(CURDIR)/build/site; to read and search it: python3 -m http.server --directory build/site"

test: lint
	$(RUN) pytest -n 2 --dist loadfile

test-cluster:
	"$(PYTHON)" tools/cluster_tests.py

test-wheel: .venv/installed
	.venv/bin/python tools/wheel_test.py

lint: .venv/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: .venv/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs: .venv/installed
	$(RUN) unclip.cli.docs > docs/cli.md

licences: .venv/installed-dev
	.venv/bin/python tools/licences.py

constraints: .venv/installed
	.venv/bin/python tools/constraints.py

release: .venv/installed
	.venv/bin/python tools/release.py

.venv/installed: pyproject.toml tools/make_venv.py
	@"$(PYTHON)" tools/make_venv.py .venv
	@touch $@

.venv/installed-serve: pyproject.toml tools/make_venv.py
	@"$(PYTHON)" tools/make_venv.py .venv serve
	@touch $@ .venv/installed

.venv/installed-dev: pyproject.toml tools/make_venv.py
	@"$(PYTHON)" tools/make_venv.py .venv dev
	@touch $@ .venv/installed .venv/installed-serve

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
