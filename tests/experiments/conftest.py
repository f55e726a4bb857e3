"""A checkout without experiments, for tests that write one; and which tests are long."""

import sys

import pytest

import experiments


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What reads the result of a whole toy run is long."""
    for item in items:
        if {"whole", "finished"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Its folder, in which `experiments.<slug>` is looked for."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "README.md").write_text("| paper |\n|---|---|---|---|---|---|\n")
    (tmp_path / "tests" / "experiments").mkdir(parents=True)
    monkeypatch.setattr(experiments, "__path__", [str(tmp_path / "experiments")])
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("experiments."):
            del sys.modules[name]
