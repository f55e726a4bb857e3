"""A stage of a run in a folder of its own."""

import pytest

from rlhf_jax.training import Stage, open_run


@pytest.fixture
def stage(tmp_path):
    with open_run(tmp_path / "run", slug="recipes", config={}) as run:
        yield Stage(run, "fit")
