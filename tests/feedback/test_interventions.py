"""Teachers who step in: their rules, their probabilities, what an optimum under them is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rlhf_jax.envs.hazard_grid import hazard_grid
from rlhf_jax.exact.discounted_mdp import evaluate, optimal
from rlhf_jax.feedback.interventions import (
    intervention_loglik,
    intervention_probs,
    interventions,
    rejected_by_margin,
    rejected_by_share,
)

Q = jnp.array([[1.0, 0.98, 0.96, -1.0], [-1.0, -1.02, -1.04, 0.5]])
REF = jnp.array([0, 0])


def test_an_absolute_margin_by_hand():
    found = rejected_by_margin(Q, REF, margin=0.03)
    assert found.tolist() == [[False, False, True, True], [False, False, True, False]]
    # The margin itself is still accepted.
    assert not rejected_by_margin(jnp.array([[1.0, 0.5]]), REF[:1], margin=0.5).any()


def test_a_relative_margin_by_hand_and_below_zero():
    found = rejected_by_share(Q, REF, share=0.97)
    assert found.tolist() == [[False, False, True, True], [False, False, True, False]]
    # Where Q(s, a_ref) > 0 this is Q(s, a) < share Q(s, a_ref).
    np.testing.assert_array_equal(found[0], Q[0] < 0.97 * Q[0, 0])
    # Below zero that rule would reject the reference itself.
    assert bool(Q[1, 0] >= 0.97 * Q[1, 0]) is False


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=12)
@given(arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32)), st.integers(0, 3))
def test_the_reference_is_never_rejected_and_what_is_worse_never_accepted_first(values, action):
    q, ref = jnp.asarray(values), jnp.full(3, action)
    for found in (rejected_by_share(q, ref, share=0.9), rejected_by_margin(q, ref, margin=0.1)):
        rejected = np.asarray(found)
        assert not rejected[:, action].any()
        lowest_kept = np.where(rejected, np.inf, values).min(-1)
        highest_gone = np.where(rejected, values, -np.inf).max(-1)
        assert (highest_gone <= lowest_kept).all()


@pytest.mark.long
def test_probabilities_likelihood_and_frequencies_agree():
    probs = intervention_probs(jnp.array([True, False]), rate=0.95)
    np.testing.assert_allclose(probs, [0.95, 0.05], atol=1e-6)
    both = [intervention_loglik(jnp.full(2, did), probs) for did in (True, False)]
    np.testing.assert_allclose(both[0], np.log([0.95, 0.05]), atol=1e-5)
    np.testing.assert_allclose(np.exp(both[0]) + np.exp(both[1]), 1.0, atol=1e-6)
    drawn = interventions(jax.random.key(0), jnp.broadcast_to(probs, (20_000, 2)))
    np.testing.assert_allclose(drawn.mean(0), probs, atol=4 * np.sqrt(0.95 * 0.05 / 20_000))


def test_a_teacher_without_errors_is_certain():
    probs = intervention_probs(jnp.array([True, False]), rate=1.0)
    loglik = intervention_loglik(jnp.array([True, False]), probs)
    np.testing.assert_array_equal(loglik, [0.0, 0.0])
    assert intervention_loglik(jnp.array([False, True]), probs).tolist() == [-np.inf, -np.inf]
    assert interventions(jax.random.key(1), probs).tolist() == [True, False]


@pytest.mark.long
def test_whatever_is_never_interrupted_is_worth_the_reference_minus_the_margin():
    """rate = 1: min over states of V^pi - (V^ref - margin / (1 - gamma)) >= 0, whatever the tie.

    Judged by the optimal Q, and by the Q of an expert who goes left in every third state.
    """
    margin = 0.05

    def gaps(mdp, judged, actions):
        accepted = ~rejected_by_margin(judged, actions, margin=margin)
        draws = jax.random.gumbel(jax.random.key(0), (128, 16, 4))
        tied = jnp.argmax(jnp.where(accepted, draws, -jnp.inf), -1)
        logps = jnp.log(jax.nn.one_hot(tied, 4, dtype=float))
        values = jax.vmap(lambda logps: evaluate(mdp, logps).values)(logps)
        reference = jnp.take_along_axis(judged, actions[:, None], -1)[:, 0]
        return jnp.sum(accepted), values - reference

    @jax.jit
    def both(key):
        mdp = hazard_grid(key, size=4, num_hazards=3)
        best_values = optimal(mdp).action_values
        best = jnp.argmax(best_values, -1)
        expert = jnp.where(jnp.arange(16) % 3 == 1, 2, best)
        own = evaluate(mdp, jnp.log(jax.nn.one_hot(expert, 4, dtype=float))).action_values
        judges = jnp.stack([best_values, own]), jnp.stack([best, expert])
        return jax.vmap(gaps, (None, 0, 0))(mdp, *judges), margin / (1 - mdp.gamma)

    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, both(jax.random.key(2)))
    (accepted, differences), allowed = found
    assert ((accepted > 16) & (accepted < 64)).all()
    least = differences.min((1, 2))
    assert (least >= -allowed - 1e-6).all()
    # Not to be interrupted is all that is asked: some of them are worse than the reference.
    assert (least < -1e-3).all()
