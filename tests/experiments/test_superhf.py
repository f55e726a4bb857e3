"""The superhf experiment in a small size, and claims that fail where they must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.superhf import claims, config, run, worlds
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2,
    prompts=6,
    answers=12,
    betas=(0.0, 0.35, 20.0),
    superbatches=20,
    rates=(0.1, 0.3),
    early=20,
    early_betas=(0.0, 0.35),
    solve_steps=2000,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("superhf")
    with open_run(out, slug="superhf", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_closed_forms_hold_at_any_size(finished):
    verdicts = {claim.statement: claim.verdict for claim in finished[1].claims}
    for start in ("Mass of a best answer", "The same for B = 16", "Filter of the reference"):
        (found,) = [verdict for name, verdict in verdicts.items() if name.startswith(start)]
        assert found == "holds", start


@pytest.mark.long
def test_the_page_has_its_figures(finished):
    assert (finished[0] / "report.html").read_text().count("data:image/png;base64,") == 3
    assert len(finished[1].table.rows) == 3


def test_a_world_has_an_answer_that_the_proxy_overrates():
    world = worlds.draw_world(TINY, jax.random.key(0), hack=0.01)
    assert (world.proxy.argmax(1) == worlds.HACKED).all()
    np.testing.assert_allclose(jnp.exp(world.ref_logps).sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(world.ref_logps[:, 0]), 0.01, rtol=1e-5)
    found = worlds.measure(world, world.ref_logps)
    assert float(found["kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(found["calibration"]) == pytest.approx(0.0, abs=1e-6)


def test_a_method_that_depends_on_the_rate_fails():
    flat = {"proxy": np.stack([np.zeros((4, 2)), np.ones((4, 2))], -1)}
    steep = {"proxy": flat["proxy"] * np.array([1.0, 3.0])[:, None]}
    found = claims.rate_claims(TINY, {"SuperHF": steep, "PPO": flat})
    assert [claim.verdict for claim in found[:2]] == ["fails", "fails"]
    assert claims.spread(np.array([[1.0, 3.0]])) == pytest.approx(2 / 3)


def test_one_step_in_the_wrong_direction_is_not_monotone():
    rising = np.array([[0.0, 1.0, 2.0]])
    points = {"proxy": -rising, "collision": -rising, "gold": rising}
    assert claims.monotone(points).tolist() == [True]
    assert claims.monotone(points | {"gold": rising[:, [0, 2, 1]]}).tolist() == [False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.35, 0.1)}, "betas must be two or more and ascend"),
        ({"betas": (0.1, 0.35)}, "betas must begin with 0"),
        ({"early_betas": (0.0, 1.0)}, r"early_betas must have beta, 0\.35"),
        ({"rates": (0.01, 0.1)}, r"rates must have two numbers from 0\.1 on"),
        ({"samples": 1}, r"samples must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
