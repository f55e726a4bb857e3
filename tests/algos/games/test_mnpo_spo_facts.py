"""MNPO's special cases to the last bit, and what self-play on win rates does; float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nash_population import KEY, POLICY, REF, RPS, gap, random_games, trajectory

from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.losses import links
from rlhf_jax.losses.games import anchor_gaps, inpo_loss, mnpo_loss
from rlhf_jax.losses.preference.pairs import dpo_loss, ipo_loss

PAIRS = 64


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def log_probs(count):
    """Columns [count, PAIRS] of log-probs whose sums and differences are exact: n / 1024."""
    draws = np.random.default_rng(0).integers(-40_000, 0, size=(count, PAIRS))
    return jnp.asarray(draws / 1024.0)


def stacked(*columns):
    return jnp.stack(columns, axis=-1)


def test_with_the_reference_alone_mnpo_is_ipo_bit_for_bit():
    chosen, rejected, ref_chosen, ref_rejected = log_probs(4)
    for beta in (0.25, 1.0, 4.0):
        got = mnpo_loss(
            chosen,
            rejected,
            stacked(ref_chosen),
            stacked(ref_rejected),
            weights=jnp.ones(1),
            eta=1.0 / beta,
        )
        want = ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=beta)
        np.testing.assert_array_equal(got, want)


def test_with_reference_and_last_policy_mnpo_is_inpo_bit_for_bit():
    """Weights rho = eta beta and 1 - rho; also with a history of weight 0 that is not there."""
    chosen, rejected, ref_chosen, ref_rejected, old_chosen, old_rejected = log_probs(6)
    nowhere = jnp.full(PAIRS, jnp.nan)
    for eta, beta in ((0.5, 0.5), (2.0, 0.25), (2.0, 0.0)):
        rho = eta * beta
        want = inpo_loss(
            *(chosen, rejected, ref_chosen, ref_rejected, old_chosen - old_rejected),
            eta=eta,
            beta=beta,
        )
        first = stacked(ref_chosen, old_chosen, nowhere)
        second = stacked(ref_rejected, old_rejected, nowhere)
        for kept in (2, 3):
            weights = jnp.array([rho, 1.0 - rho, 0.0])[:kept]
            anchors = first[:, :kept], second[:, :kept]
            got = mnpo_loss(chosen, rejected, *anchors, weights=weights, eta=eta)
            np.testing.assert_array_equal(got, want)


def test_dpo_is_the_same_anchor_with_the_log_sigmoid():
    """KL of the label's law to the policy's over the pair; for a sure label it is -log sigmoid."""
    chosen, rejected, ref_chosen, ref_rejected = log_probs(4)
    anchors = stacked(ref_chosen), stacked(ref_rejected)
    margins = 0.25 * (chosen - rejected - anchor_gaps(*anchors, jnp.ones(1)))
    want = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.25)
    np.testing.assert_array_equal(links.logistic(margins), want)
    for target, close in ((5.0, 0.3), (20.0, 1e-5), (40.0, 1e-12)):
        sure = jax.nn.sigmoid(target)
        entropy = links.soft_logistic(jnp.asarray(target), sure)
        kl = links.soft_logistic(margins, jnp.full(PAIRS, sure)) - entropy
        np.testing.assert_allclose(kl, want, atol=close)


def test_a_history_of_one_is_mirror_descent_bit_for_bit():
    ref, oracle = jnp.asarray(REF), exact_oracle(jnp.asarray(RPS))
    one = games.td_mnpo(ref, eta=0.7, beta=0.3, history_weights=(1.0,))
    inpo = games.mirror_descent(ref, eta=0.7, beta=0.3)
    first, second = (method.init(jnp.asarray(POLICY)) for method in (one, inpo))
    for _ in range(3):
        first, second = (
            method.update(state, oracle, KEY)[0] for method, state in ((one, first), (inpo, second))
        )
    np.testing.assert_array_equal(first.logps, second.logps)


def test_two_players_of_mnpo_are_two_runs_of_hedge_that_change_places():
    starts = jnp.asarray(np.random.default_rng(3).standard_normal((2, 3)))
    refs = jnp.zeros((2, 3))
    last = trajectory(
        games.mnpo(refs, eta=0.3, beta=0.0), starts, RPS, (1, 2, 7), lambda s, _: s.logps
    )
    alone = trajectory(
        games.mirror_descent(refs, eta=0.3, beta=0.0), starts, RPS, (1, 2, 7), lambda s, _: s.logps
    )
    np.testing.assert_allclose(last[0], alone[0][::-1], atol=1e-12)
    np.testing.assert_allclose(last[1], alone[1], atol=1e-12)
    np.testing.assert_allclose(last[2], alone[2][::-1], atol=1e-12)


def test_the_gap_of_hedge_is_twice_its_regret_over_t():
    """max_q P(q > average) - 1/2 is the regret of self-play itself, whose own payoff is 1/2."""
    (prefs,), _ = random_games(5, 1, 6)
    method, steps = games.mirror_descent(jnp.zeros(6), eta=0.2, beta=0.0), 200
    state = method.init(jnp.asarray(np.random.default_rng(5).standard_normal(6)))
    oracle, total = exact_oracle(jnp.asarray(prefs)), jnp.zeros(6)
    update = jax.jit(lambda state: method.update(state, oracle, KEY)[0])
    for _ in range(steps):
        total = total + oracle(state.logps, KEY) - 0.5
        state = update(state)
    np.testing.assert_allclose(gap(prefs, state.average), 2 * total.max() / steps, atol=1e-12)


def test_self_play_on_bradley_terry_preferences_finds_the_best_score():
    """Ten games of five answers; no reward is ever seen, so a shift of it can change nothing."""
    scores = jnp.asarray(np.random.default_rng(1).standard_normal((10, 5)))
    prefs = jax.nn.sigmoid(scores[:, :, None] - scores[:, None, :])
    method = games.mirror_descent(jnp.zeros((10, 5)), eta=5.0, beta=0.0)
    state = method.init(jnp.zeros((10, 5)))
    run = jax.jit(
        lambda state: run_updates(
            method.update,
            state,
            exact_oracle(prefs),
            KEY,
            times=(20_000,),
            record=lambda s, _: s.logps,
        )[1]
    )
    probs = np.exp(np.asarray(run(state))[0])
    np.testing.assert_array_equal(probs.argmax(-1), np.asarray(scores).argmax(-1))
    assert probs.max(-1).min() > 0.99
