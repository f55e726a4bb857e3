"""Hedge, its step and its regret bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.games import hedge, hedge_bound, hedge_step, mirror_descent
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.envs.games import rock_paper_scissors
from rlhf_jax.ops.games import exploitability


def test_the_step_by_hand():
    """n = e^2, T = 400: sqrt(8 * 2 / 400) = 0.2."""
    np.testing.assert_allclose(hedge_step(np.exp(2.0), 400), 0.2, rtol=1e-6)


def test_the_bound_by_hand():
    """2 (log 4 / (0.2 * 100) + 0.2 / 8) = 0.1 log 4 + 0.05."""
    found = hedge_bound(np.log(0.25), eta=0.2, updates=np.array([100, 200]))
    np.testing.assert_allclose(found, [0.1 * np.log(4) + 0.05, 0.05 * np.log(4) + 0.05])


def test_its_step_gives_the_smallest_bound_from_uniform():
    """2 (log n / (eta T) + eta / 8) at eta = sqrt(8 log n / T) is sqrt(2 log n / T)."""
    rarest, best = -np.log(5.0), float(hedge_step(5.0, 50))
    bounds = [float(hedge_bound(rarest, eta=x * best, updates=50)) for x in (0.9, 1.0, 1.1)]
    np.testing.assert_allclose(bounds[1], np.sqrt(2 * np.log(5) / 50), rtol=1e-6)
    assert bounds[1] < min(bounds[0], bounds[2])


@pytest.mark.long
def test_it_is_mirror_descent_without_a_pull_and_keeps_its_bound():
    prefs, start = rock_paper_scissors(), jnp.log(jnp.array([0.7, 0.2, 0.1]))
    eta, oracle, key = hedge_step(3.0, 64), exact_oracle(prefs), jax.random.key(0)

    def gaps(method):
        def gap(state, _):
            return exploitability(prefs, state.average)

        end = run_updates(method.update, method.init(start), oracle, key, times=(64,), record=gap)
        return float(end[1][0])

    found = gaps(hedge(start, eta=eta))
    assert found == gaps(mirror_descent(start, eta=eta, beta=0.0))
    assert 0.01 < found <= float(hedge_bound(jnp.min(start), eta=eta, updates=64))
