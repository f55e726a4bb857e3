"""The rlhf_workflow experiment: identities of log-linear DPO, and claims that can fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rlhf_workflow import claims, config, run
from experiments.rlhf_workflow.bandits import Pairs, draw_world, fit, objective, policy_logps
from experiments.rlhf_workflow.methods import methods, variants
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.training import open_run

SMALL = replace(
    config.quick(),
    num_seeds=3,
    few_seeds=2,
    prompts=12,
    rounds=3,
    pairs=20,
    sizes=(60, 240),
    guarantee_seeds=2,
)


@pytest.fixture(scope="module")
def world():
    return draw_world(SMALL, jax.random.key(0))


def test_the_reference_has_its_rare_mass_and_the_weights_their_lengths(world):
    probs = jnp.exp(policy_logps(world, jnp.zeros(10), eta=0.5))
    np.testing.assert_allclose(probs[:, SMALL.common :].sum(-1), SMALL.rare_mass, rtol=1e-5)
    norms = [jnp.linalg.norm(block) for block in jnp.split(world.weights, 2)]
    np.testing.assert_allclose(norms, [SMALL.common_norm, SMALL.rare_norm], rtol=1e-5)
    assert not np.any(world.features[:, : SMALL.common, 5:])


def test_the_optimum_has_the_value_of_its_normaliser(world):
    """max J = eta E log Z."""
    found = objective(world, policy_logps(world, world.weights, eta=0.5), eta=0.5)
    scaled = world.features @ world.weights / 0.5 + world.ref_logps
    np.testing.assert_allclose(found, 0.5 * jax.nn.logsumexp(scaled, -1).mean(), rtol=1e-5)


def test_dpo_of_log_linear_policies_is_logistic_regression_whatever_eta(world):
    """With normalised policies and their reference, the loss of a pair is that of `fit`."""
    params, prompts = jnp.linspace(-1, 1, 10), jnp.arange(6)
    first, second = jnp.arange(6), jnp.arange(6) + 50
    margins = (world.features[prompts, first] - world.features[prompts, second]) @ params
    for eta in (0.2, 1.5):
        logps, ref = (policy_logps(world, p, eta=eta) for p in (params, jnp.zeros(10)))
        sides = [x[prompts, a] for x in (logps, ref) for a in (first, second)]
        np.testing.assert_allclose(dpo_loss(*sides, beta=eta), jax.nn.softplus(-margins), rtol=1e-4)


def test_fits_leave_out_what_does_not_count(world):
    rng = np.random.default_rng(0)
    rows = Pairs(*jnp.asarray(rng.normal(size=(2, 30, 10)), jnp.float32))
    counted = jnp.asarray(np.arange(30) < 20, jnp.float32)
    some = fit(rows, counted, jnp.zeros(10), eta=0.5, ridge=0.1)
    few = fit(Pairs(*(x[:20] for x in rows)), counted[:20], jnp.zeros(10), eta=2.0, ridge=0.1)
    np.testing.assert_allclose(some, few, atol=1e-4)
    gradient = jax.grad(
        lambda w: jnp.sum(jax.nn.softplus(-(rows.chosen - rows.rejected)[:20] @ w)) + 0.05 * w @ w
    )(some)
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("rlhf_workflow")
    with open_run(out, slug="rlhf_workflow", config=SMALL) as job:
        return out, run.run(SMALL, job)


def test_a_small_run_draws_and_claims_everything(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2
    assert [claim.op for claim in outcome.claims] == [">=", ">=", ">=", "<=", *[">="] * 4]
    assert [row[0] for row in outcome.table.rows] == list(methods(SMALL) | variants(SMALL))
    assert np.isfinite([row[1] for row in outcome.table.rows]).all()


def paths(**gaps):
    """Gaps [3 bandits, 4 rounds + 1] of every method, one number at the end of each."""
    steps = np.linspace(1, 0, 5)[None, :]
    noise = 1 + 0.01 * np.arange(3)[:, None]
    made = {}
    for name in methods(SMALL) | variants(SMALL):
        end = gaps.get(name, 0.5)
        made[name] = {"gap": (end + 0.3 * steps) * noise, "kl": noise * steps[:, ::-1] + 0.1}
        made[name]["best_kl"] = np.ones((3, 5))
    return made


def test_methods_that_are_no_better_fail():
    sized = replace(SMALL, rounds=4)
    found = claims.round_claims(sized, paths(enhancer=0.9, online=0.9))
    assert [claim.verdict for claim in found] == ["fails"] * 4
    moved = claims.trap_claims(sized, paths())
    assert [claim.verdict for claim in moved] == ["fails", "fails"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": 0.0}, r"eta must be in \[0.01, 1000\]"),
        ({"rare_mass": 1.0}, r"rare_mass must be in \(0, 1\)"),
        ({"sizes": (10, 10)}, "sizes must ascend"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
