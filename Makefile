# Two commands for a fresh machine: `make demo` and `make test`. Each sets up what it needs; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := progressive agents environments experiments analysis
export MUJOCO_GL ?= osmesa

.PHONY: demo test docs format lock camera

demo: .venv/installed camera
	$(BIN)/python -m experiments.demo $(if $(FROM_SCRATCH),--from_scratch) $(ARGS)

test: .venv/installed camera
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES)
	$(MAKE) docs
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

# The site, in site/; a broken link is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: setup.py requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev,docs,twin]'
	touch $@

# The twin's camera draws with OSMesa (or EGL, with MUJOCO_GL=egl).
camera:
	@if [ "$$MUJOCO_GL" = osmesa ] && ! ldconfig -p | grep -q libOSMesa; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq libosmesa6; \
	  else \
	    echo "The twin's camera needs OSMesa: sudo apt-get install libosmesa6 (or MUJOCO_GL=egl on a GPU machine)"; exit 1; \
	  fi; \
	fi

# Writes the lock from a fresh .venv: rm -rf .venv requirements.lock; touch requirements.lock; make lock
lock: .venv/installed
	(echo "# The tested set of versions (Python 3.11, CPU): constraints for pip, written by make lock."; \
	 $(BIN)/pip freeze --exclude-editable) > requirements.lock
