"""The raft experiment in a small size, and claims that fail where they must."""

import numpy as np
import pytest

from experiments.raft import claims, config, learners, run, studies, table
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2, table_answers=200, draws=20_000, prompts=32, answers=8, stages=4, steps=10
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("raft")
    with open_run(out, slug="raft", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_what_does_not_depend_on_size_holds(finished):
    verdicts = {claim.statement: claim.verdict for claim in finished[1].claims}
    # Bit-for-bit claims compare two programs; flags of the tests may round them differently.
    for start in ("T exact rounds", "KL to the start minus T", "Best of 4 with ties"):
        (found,) = [verdict for name, verdict in verdicts.items() if name.startswith(start)]
        assert found == "holds", start


@pytest.mark.long
def test_the_page_has_its_figures(finished):
    assert (finished[0] / "report.html").read_text().count("data:image/png;base64,") == 3
    assert finished[1].table.rows


def test_a_method_that_is_worse_fails():
    curves = {"reward": np.zeros((3, 13)), "kl": np.ones((3, 13))}
    worse = {"reward": np.zeros((3, 13)) - np.arange(13), "kl": np.ones((3, 13))}
    learning = {"RAFT, K = 8": worse, "PPO, K = 8": curves}
    assert {each.verdict for each in claims.ppo_claims(TINY, learning)} == {"fails"}


def test_the_divergence_of_rounds_without_ties():
    # 2 log 4 - 1 + 1/16
    assert table.continuous_kl(4, 2) == pytest.approx(1.8350887)


def test_a_transform_keeps_the_order():
    rewards = np.linspace(-2, 2, 9)
    assert (np.diff(studies.scaled(rewards)) > 0).all()


def test_a_world_has_the_asked_sizes():
    world = learners.draw_world(TINY, studies.world_keys(TINY)[0][0])
    assert world.features.shape == (32, 8, 16)
    assert world.rewards.shape == (32, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 2}, r"stages must be in \[3, inf\)"),
        ({"betas": (0.1, 1.0)}, "betas must ascend from 0"),
        ({"betas": (0.0,)}, "betas must have another number"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
