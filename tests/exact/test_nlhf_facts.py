"""Facts of the papers on Nash-MD and Nash-MP that no other test states; small games, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos import games
from rlhf_jax.algos.bradley_terry import fit_win_matrix, win_matrix_loss
from rlhf_jax.algos.games.opponents import mixture
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.algos.games.steps import decaying_steps, mirror_step
from rlhf_jax.envs.games import (
    asymmetric_cycle,
    bradley_terry_game,
    random_game,
    random_reference,
    rock_paper_scissors,
    three_types,
    tilted_reference,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.games import win_rate, win_rates
from rlhf_jax.ops.kl import exact_kl

KEY = jax.random.key(0)
SEEDS = pytest.mark.parametrize("seed", [0, 1])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def drawn(seed, n=5):
    """P [n, n], log mu and two policies [n]."""
    game_key, *keys = jax.random.split(jax.random.key(seed), 4)
    return random_game(game_key, n), *(random_reference(key, n) for key in keys)


def one_update(method, logps, prefs):
    return method.update(method.init(logps), exact_oracle(prefs), KEY)[0].logps


# ---- Nash-MD.


@pytest.mark.long
@SEEDS
def test_one_step_of_nash_md_keeps_its_inequality(seed):
    """KL(pi* || pi+) <= (1 - eta beta) KL(pi* || pi) + 2 eta^2, and not without the last term."""
    prefs, ref, *_ = drawn(seed)
    beta = 0.2
    star = jnp.asarray(regularised_nash(prefs, ref, beta=beta))
    starts = jnp.concatenate([star[None], random_reference(jax.random.split(KEY, 30), 5)])

    def step(eta, logps):
        after = one_update(games.nash_md(ref, eta=eta, beta=beta), logps, prefs)
        return exact_kl(star, after) - (1.0 - eta * beta) * exact_kl(star, logps)

    etas = jnp.geomspace(1e-3, 1 / beta, 20)
    more = jax.jit(jax.vmap(jax.vmap(step, (None, 0)), (0, None)))(etas, starts)
    assert np.all(more <= 2 * etas[:, None] ** 2 + 1e-14)
    assert float(jnp.max(more)) > 0.0


@SEEDS
def test_the_first_decaying_step_forgets_where_it_started(seed):
    """eta_0 beta = 1: the mixture is the reference, and the step a best response to it."""
    prefs, ref, first, second = drawn(seed)
    method = games.nash_md(ref, eta=decaying_steps(0.3), beta=0.3)
    want = jax.nn.log_softmax(ref + prefs @ jnp.exp(ref) / 0.3)
    for start in (first, second):
        np.testing.assert_allclose(one_update(method, start, prefs), want, atol=1e-12)


@pytest.mark.long
def test_against_a_mixture_the_policy_gradient_ends_elsewhere():
    """At mu exp(P pi^b / beta) / Z with pi^b = pi^(1-b) mu^b: the solution for b = 0 only."""
    prefs, ref, beta = rock_paper_scissors(), tilted_reference(tilt=1.0), 0.1
    weights = jnp.array([0.0, 0.125, 0.25])

    def end(weight):
        opponent = mixture(ref, weight=weight)
        method = games.policy_gradient(ref, eta=1.0, beta=beta, opponent=opponent)
        state, _ = run_updates(
            method.update,
            method.init(ref),
            exact_oracle(prefs),
            KEY,
            times=(2000,),
            record=lambda state, _: (),
        )
        return state.logps

    ends = jax.jit(jax.vmap(end))(weights)
    mixed = jax.nn.softmax((1 - weights[:, None]) * ends + weights[:, None] * ref)
    want = jax.nn.log_softmax(ref + win_rates(prefs, mixed) / beta)
    np.testing.assert_allclose(ends, want, atol=1e-9)
    away = exact_kl(jnp.broadcast_to(regularised_nash(prefs, ref, beta=beta), ends.shape), ends)
    assert float(away[0]) < 1e-12
    assert 1e-3 < float(away[1]) < float(away[2])


@SEEDS
@pytest.mark.parametrize("weight", [0.0, 0.125, 0.5, 1.0])
def test_the_penalty_to_the_mixture_is_a_share_of_that_to_the_reference(seed, weight):
    """Gradients of KL(pi || pi^b) and b KL(pi || mu) agree at the pi that made pi^b (App. F.3)."""
    _, ref, logits, other = drawn(seed)
    mixed = jax.nn.log_softmax((1 - weight) * logits + weight * ref)
    slope = jax.grad(exact_kl)
    want = weight * slope(logits, ref)
    np.testing.assert_allclose(slope(logits, mixed), want, atol=1e-14)
    if 0 < weight < 1:  # elsewhere they differ
        assert float(jnp.max(jnp.abs(slope(other, mixed) - weight * slope(other, ref)))) > 1e-3


# ---- What a Bradley-Terry model makes of preferences that it cannot represent.


def bradley_terry_scores(prefs, sampler):
    """Scores of mean 0 with the least loss over pairs of two answers of the sampler."""
    chance = sampler[:, None] * sampler[None, :] * prefs
    scores = fit_win_matrix(chance)
    assert float(jnp.max(jnp.abs(jax.grad(win_matrix_loss)(scores, chance)))) < 1e-10
    return scores


UNIFORM = np.full(3, 1 / 3)
SAMPLERS = (UNIFORM, np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.8, 0.1]))


@pytest.mark.long
def test_scores_depend_on_who_drew_the_pairs_unless_they_explain_them():
    """Thm 2 and Prop. 2: not for a Bradley-Terry game; in a cycle even the best answer changes."""
    scores = jnp.array([0.5, 0.3, -0.8])
    best = set()
    for sampler in SAMPLERS:
        explained = bradley_terry_scores(bradley_terry_game(scores), jnp.asarray(sampler))
        np.testing.assert_allclose(explained, scores, atol=1e-9)
        cyclic = bradley_terry_scores(asymmetric_cycle(), jnp.asarray(sampler))
        best.add(int(jnp.argmax(cyclic)))
    assert len(best) > 1


@pytest.mark.parametrize(("eps", "best"), [(-0.1, 1), (-1e-3, 1), (1e-3, 0), (0.1, 0)])
def test_the_best_score_of_three_types_jumps_at_zero(eps, best):
    """Where the Nash policy (1/3 + eps/2, 1/3 + eps/2, 1/3 - eps) is continuous."""
    scores = bradley_terry_scores(three_types(eps), jnp.asarray(UNIFORM))
    assert int(jnp.argmax(scores)) == best


def test_under_a_constraint_the_best_score_is_not_the_best_win_rate():
    """Elo (0, log 9, log 2), policies with pi(0) = 2 pi(1) (App. A)."""
    elo = jnp.log(jnp.array([1.0, 9.0, 2.0]))
    prefs = bradley_terry_game(elo)
    shares = jnp.linspace(0.0, 1 / 3, 50)
    policies = jnp.stack([2 * shares, shares, 1 - 3 * shares], axis=-1)
    np.testing.assert_allclose(
        policies[jnp.argmax(policies @ elo)], [2 / 3, 1 / 3, 0.0], atol=1e-12
    )
    last = jnp.array([0.0, 0.0, 1.0])
    wins = win_rate(prefs, last, policies)
    assert np.all(wins[1:] > 0.5)
    np.testing.assert_allclose(1 - wins[-1], 49 / 99, rtol=1e-12)


# ---- Nash-MP.


@SEEDS
def test_a_half_step_minimises_the_papers_objective(seed):
    """P(q > pi) / beta + KL(pi || mu) + KL(pi || pi_k) / e,   eta = e / (beta (1 + e))."""
    prefs, ref, logps, opponent = drawn(seed)
    beta, native = 0.3, 0.6

    def objective(logits, sign):
        wins = win_rate(prefs, jnp.exp(opponent), jax.nn.softmax(logits))
        return sign * wins / beta + exact_kl(logits, ref) + exact_kl(logits, logps) / native

    found = mirror_step(
        logps,
        ref,
        win_rates(prefs, jnp.exp(opponent)),
        eta=native / (beta * (1 + native)),
        beta=beta,
    )
    np.testing.assert_allclose(jax.grad(objective)(found, 1.0), 0.0, atol=1e-12)
    assert float(jnp.max(jnp.abs(jax.grad(objective)(found, -1.0)))) > 1e-2


@SEEDS
def test_without_a_centre_mirror_prox_is_two_best_responses(seed):
    """The paper's eta' to infinity, eta beta = 1."""
    prefs, ref, logps, _ = drawn(seed)
    beta = 0.3
    want = logps
    for _ in range(2):
        want = jax.nn.log_softmax(ref + win_rates(prefs, jnp.exp(want)) / beta)
    method = games.nash_mp(ref, eta=1 / beta, beta=beta)
    np.testing.assert_allclose(one_update(method, logps, prefs), want, atol=1e-12)


@SEEDS
def test_both_half_steps_of_mirror_prox_have_one_centre(seed):
    """From pi_{k+1/2} the second would be mirror descent at double speed."""
    prefs, ref, logps, _ = drawn(seed)
    eta, beta = 0.8, 0.3
    prox = one_update(games.nash_mp(ref, eta=eta, beta=beta), logps, prefs)
    descent = games.mirror_descent(ref, eta=eta, beta=beta)
    twice = one_update(descent, one_update(descent, logps, prefs), prefs)
    half = one_update(descent, logps, prefs)
    want = mirror_step(logps, ref, win_rates(prefs, jnp.exp(half)), eta=eta, beta=beta)
    np.testing.assert_allclose(prox, want, atol=1e-12)
    assert float(jnp.max(jnp.abs(prox - twice))) > 1e-2


@pytest.mark.long
@SEEDS
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_span_of_log_ratios_of_nash_mp_falls_at_half_its_rate_or_better(seed, beta):
    """max - min of log pi_k - log pi*: KL is of its square, and falls by 1 / (1 + 2 beta)."""
    prefs, ref, *_ = drawn(seed)
    star = jnp.asarray(regularised_nash(prefs, ref, beta=beta))
    method = games.nash_mp(ref, eta=2 / (1 + 2 * beta), beta=beta)
    _, gaps = run_updates(
        method.update,
        method.init(ref),
        exact_oracle(prefs),
        KEY,
        times=range(1, 81),
        record=lambda state, _: jnp.ptp(state.logps - star),
    )
    clear = np.asarray(gaps) > 1e-12
    slope = np.polyfit(np.arange(80)[clear], np.log(np.asarray(gaps)[clear]), 1)[0]
    assert slope < -0.5 * np.log(1 + 2 * beta)
