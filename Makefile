# Everything CI runs, by name. `make check` is all of it.
.PHONY: check test slow lint docs
WORKERS ?= 2

check: test lint docs

test:
	KERAS_BACKEND=tensorflow python -m pytest -n $(WORKERS)
	KERAS_BACKEND=jax python -m pytest -n $(WORKERS)

# Without a browser the tests that want one fail here; elsewhere they are skipped. That all
# estimators learn the same again, and go on as if never stopped, is promised of both engines.
slow:
	NEEDS_BROWSER=1 python -m pytest -m slow
	KERAS_BACKEND=jax python -m pytest -m slow tests/test_determinism.py tests/test_resume.py

lint:
	ruff check .
	ruff format --check .
	mypy

docs:
	PYTHONPATH=. mkdocs build
