# Everything CI runs, by name. `make check` is all of it.
.PHONY: check test slow lint docs
WORKERS ?= 2

check: test lint docs

test:
	KERAS_BACKEND=tensorflow python -m pytest -n $(WORKERS)
	KERAS_BACKEND=jax python -m pytest -n $(WORKERS)

slow:
	python -m pytest -m slow

lint:
	ruff check .
	ruff format --check .
	mypy

docs:
	PYTHONPATH=. mkdocs build
