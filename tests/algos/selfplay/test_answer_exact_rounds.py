"""A round of each method, its draws enumerated, is the update of the table; sampled, near it."""

from functools import partial

import answer_population as toy
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from answer_population import (
    GAME,
    KEY,
    LOGPS,
    OTHER,
    REF,
    SIZE,
    THIRD,
    Opponent,
    logps_of,
    table,
)
from nash_population import one_update

from rlhf_jax.algos import games
from rlhf_jax.algos import selfplay as methods
from rlhf_jax.algos.games.opponents import mixture, moving_average
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.steps import mirror_step, softmax_gradient_step
from rlhf_jax.sampling.draws import mixture_policy, policy_draw

ETA, BETA = 1.5, 0.3
IPO_RATE = ETA * BETA * SIZE / 4
close = partial(np.testing.assert_allclose, rtol=0, atol=5e-6)


def play(method, rows, memory=None):
    """One round from LOGPS, with this memory if any."""
    state = method.init(table(LOGPS))
    state = state if memory is None else state._replace(memory=memory)
    return method.round(state, toy.prompts(rows), KEY)


def exact(method, start=None):
    """The update of the table from LOGPS."""
    return one_update(method, LOGPS, GAME, start=start)


# ---- Regressions by the gradient step: uniform pairs, exact win rates of the opponent.


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "row"),
    [(methods.online_ipo, games.mirror_descent), (methods.egpo, games.nash_mp)],
    ids=["online IPO", "EGPO"],
)
def test_a_gradient_step_on_uniform_pairs_is_the_mirror_step(method, row):
    foe = Opponent()
    arena = toy.arena(foe.draw, foe.judge, IPO_RATE)
    state, metrics = play(method(arena, beta=BETA, pair_draw=toy.listed(toy.UNIFORM_PAIRS)), 9)
    close(logps_of(state), exact(row(REF, eta=ETA, beta=BETA)))
    assert state.round == state.train.step == 1
    close(metrics["prefs/mean"].value(), np.mean(GAME @ foe.seen[-1]))


@pytest.mark.long
def test_egpo_takes_both_steps_from_the_same_optimiser_state():
    """Moments and counts of Adam, after a round that has filled them."""
    foe, adam = Opponent(), optax.adam(0.1)
    arena = toy.arena(foe.draw, foe.judge, optimizer=adam)
    method = methods.egpo(arena, beta=BETA, pair_draw=toy.listed(toy.UNIFORM_PAIRS))
    start = play(method, 9)[0].train
    assert np.abs(start.opt_state[0].mu).max() > 0.03

    def moved(opponent):
        """The gradient in closed form, taken to Adam from the start."""
        gap = start.params - REF - jax.nn.softmax(opponent) @ GAME.T / BETA
        slope = 4 / SIZE * (gap - gap.mean())
        updates, opt_state = adam.update(slope.astype(jnp.float32), start.opt_state, start.params)
        return optax.apply_updates(start.params, updates), opt_state

    want, opt_state = moved(moved(start.params)[0])
    state = method.init(table(LOGPS))._replace(train=start)
    got = method.round(state, toy.prompts(9), KEY)[0].train
    jax.tree.map(partial(close, atol=1e-5), (got.params, got.opt_state), (want, opt_state))
    assert got.opt_state[0].count == 2


# ---- Policy gradients: answers of pi_t as often as it gives them, exact win rates.


def own_then(foe):
    """A draw of the policy's own answers, its opponent's in every second call."""
    calls = []

    def draw(params, prompts, key, samples, first=0):
        calls.append(key)
        own = toy.listed(toy.ANSWERS[:, None])
        return (own if len(calls) % 2 else foe.draw)(params, prompts, key, samples)

    return draw


@pytest.mark.long
def test_self_play_and_the_moving_average_are_policy_gradient_rows():
    rows = [
        (methods.nash_md_pg, None, (), None),
        (partial(methods.nash_ema_pg, decay=0.9), moving_average(decay=0.9), table(OTHER), OTHER),
    ]
    for method, opponent, memory, start in rows:
        foe = Opponent()
        arena = toy.arena(own_then(foe), foe.judge, ETA)
        state, metrics = play(method(arena, beta=BETA), 4, memory)
        row = games.policy_gradient(REF, eta=ETA, beta=BETA, opponent=opponent)
        close(logps_of(state), exact(row, start))
        kl = np.sum(np.exp(LOGPS) * (LOGPS - REF))
        close(metrics["kl/ref"].value(), kl)
    close(state.memory, 0.9 * table(OTHER) + 0.1 * state.train.params)


@pytest.mark.long
def test_nash_md_pg_plays_the_mixture_with_the_reference():
    foe = Opponent(mix=lambda params: 0.75 * params[0][0] + 0.25 * params[1][0])
    arena = toy.arena(toy.listed(toy.ANSWERS[:, None]), foe.judge, ETA)
    state, _ = play(methods.nash_md_pg(arena, beta=BETA, mixed_draw=foe.draw), 4)
    opponent = mixture(REF, weight=0.25)
    close(logps_of(state), exact(games.policy_gradient(REF, eta=ETA, beta=BETA, opponent=opponent)))


ROWS = 4096


def nash_mp_round(rate, steps):
    """A round whose answers lie at the quantiles of the policy, 1 / 4096 from its probabilities."""
    foe, calls = Opponent(), []

    def draw(params, prompts, key, samples, first=0):
        calls.append(key)
        if len(calls) % 2 == 0:
            return foe.draw(params, prompts, key, samples)
        ends = np.cumsum(jax.nn.softmax(params[0]))[:-1]
        return toy.rollout(params, np.searchsorted(ends, (np.arange(ROWS) + 0.5) / ROWS)[:, None])

    arena = toy.arena(draw, foe.judge, rate)
    state, _ = play(methods.nash_mp_pg(arena, eta=ETA, beta=BETA, steps=steps), ROWS)
    return state, foe, calls


@pytest.mark.long
def test_nash_mp_is_two_halves_of_proximal_gradients():
    """Both from pi_t; the opponent and the centre stand still; every step draws anew."""
    rate, steps = 0.5, 3
    state, foe, calls = nash_mp_round(rate, steps)
    anchor = ETA * BETA * REF + (1 - ETA * BETA) * LOGPS

    def half(opponent):
        logps = LOGPS
        for _ in range(steps):
            wins = GAME @ opponent
            logps = softmax_gradient_step(logps, anchor, wins, eta=rate, beta=1 / ETA)
        return logps

    middle = half(jnp.exp(LOGPS))
    close(logps_of(state), half(jnp.exp(middle)), atol=2e-3)
    close(foe.seen[:steps], [jnp.exp(LOGPS)] * steps)
    close(foe.seen[steps:], [jnp.exp(middle)] * steps, atol=2e-3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in calls}) == 4 * steps
    assert state.train.step == steps


@pytest.mark.long
def test_nash_mp_solved_is_its_row():
    state, *_ = nash_mp_round(2.0, 40)
    want = exact(games.nash_mp(REF, eta=ETA, beta=BETA))
    close(logps_of(state), want, atol=5e-3)
    single = exact(games.mirror_descent(REF, eta=ETA, beta=BETA))
    assert np.abs(single - want).max() > 0.03


# ---- Regressions solved: every pair of pi_t with every label.


def solved(method, **numbers):
    arena = toy.arena(toy.listed(toy.LABELLED_PAIRS[:, :2]), toy.label_judge, 0.7)
    return method(arena, eta=ETA, steps=40, **numbers)


LABELS = len(toy.LABELLED_PAIRS)


@pytest.mark.long
def test_inpo_solved_is_mirror_descent():
    state, metrics = play(solved(methods.inpo, beta=BETA), LABELS)
    close(logps_of(state), exact(games.mirror_descent(REF, eta=ETA, beta=BETA)))
    assert state.train.step == 40
    close(metrics["prefs/mean"].value(), 0.5)
    close(metrics["grad_norm"].value(), 0.0)


@pytest.mark.long
def test_onpo_solved_is_omwu():
    state, _ = play(solved(methods.onpo), LABELS, table(OTHER))
    row = games.omwu(REF, eta=ETA)
    close(logps_of(state), exact(row, OTHER))
    wins = GAME @ jnp.exp(LOGPS)
    base = jax.nn.log_softmax(state.memory[0])
    close(base, mirror_step(OTHER, REF, wins, eta=ETA, beta=0.0))


def test_td_mnpo_solved_is_its_row():
    weights = (0.3, 0.5, 0.2)
    method = solved(methods.td_mnpo_regression, beta=BETA, history_weights=weights)
    state, _ = play(method, LABELS, (table(OTHER), table(THIRD)))
    row = games.td_mnpo(REF, eta=ETA, beta=BETA, history_weights=weights)
    known = row.init(LOGPS)._replace(memory=jnp.stack([OTHER, THIRD]))
    close(logps_of(state), row.update(known, exact_oracle(GAME), KEY)[0].logps)
    first, _ = play(method, LABELS)
    close(logps_of(first), row.update(row.init(LOGPS), exact_oracle(GAME), KEY)[0].logps)


def test_td_mnpo_without_history_is_inpo():
    one = play(solved(methods.td_mnpo_regression, beta=BETA, history_weights=(1.0,)), LABELS)[0]
    other = play(solved(methods.inpo, beta=BETA), LABELS)[0]
    close(one.train.params, other.train.params)
    assert one.memory == ()


@pytest.mark.parametrize(
    "method",
    [
        partial(methods.inpo, beta=BETA),
        methods.onpo,
        partial(methods.td_mnpo_regression, beta=BETA, history_weights=(1.0,)),
    ],
    ids=["INPO", "ONPO", "TD-MNPO"],
)
def test_rounds_that_solve_start_with_a_fresh_optimiser_state(method):
    draw = toy.listed(toy.LABELLED_PAIRS[:, :2])
    arena = toy.arena(draw, toy.label_judge, optimizer=optax.adam(0.1))
    method = method(arena, eta=ETA, steps=3)
    state = method.init(table(LOGPS))
    stale = jax.tree.map(lambda x: x + 7, state.train.opt_state)
    stale = state._replace(train=state.train._replace(opt_state=stale))
    fresh, old = (method.round(each, toy.prompts(LABELS), KEY)[0] for each in (state, stale))
    jax.tree.map(np.testing.assert_array_equal, old, fresh)


# ---- Win rates as rewards: every group of three.


@pytest.mark.long
def test_spo_is_the_policy_gradient_of_self_play():
    arena = toy.arena(toy.listed(toy.GROUPS), toy.matrix_judge, ETA)
    state, metrics = play(methods.spo(arena, beta=BETA, samples=3), len(toy.GROUPS))
    close(logps_of(state), exact(games.policy_gradient(REF, eta=ETA, beta=BETA)))
    close(metrics["prefs/mean"].value(), 0.5)


@pytest.mark.long
def test_a_queue_of_one_group_is_the_group():
    arena = toy.arena(toy.listed(toy.GROUPS), toy.matrix_judge, ETA)
    rows = len(toy.GROUPS)
    queue = methods.spo_queue(arena, beta=BETA, samples=3, size=3, prompt_count=rows)
    (got, metrics), (want, _) = (
        play(queue, rows),
        play(methods.spo(arena, beta=BETA, samples=3), rows),
    )
    close(got.train.params, want.train.params)
    close(metrics["ages/mean"].value(), 0.0)


# ---- The same with real draws: 20,000 prompts, within a quarter of what the update moves.


def uniform_draw(params, prompts, key, samples, first=0):
    return policy_draw(toy.POLICY)(jnp.zeros((1, SIZE)), prompts, key, samples, first)


SAMPLED = {
    "nash_md_pg": (
        lambda arena: methods.nash_md_pg(
            arena, beta=BETA, mixed_draw=policy_draw(mixture_policy(toy.POLICY, weight=0.25))
        ),
        games.policy_gradient(REF, eta=ETA, beta=BETA, opponent=mixture(REF, weight=0.25)),
        ETA,
    ),
    "egpo": (
        lambda arena: methods.egpo(arena, beta=BETA, pair_draw=uniform_draw),
        games.nash_mp(REF, eta=ETA, beta=BETA),
        IPO_RATE,
    ),
    "inpo": (
        lambda arena: methods.inpo(arena, eta=ETA, beta=BETA, steps=30),
        games.mirror_descent(REF, eta=ETA, beta=BETA),
        0.7,
    ),
    "onpo": (
        lambda arena: methods.onpo(arena, eta=ETA, steps=30),
        games.omwu(REF, eta=ETA),
        0.7,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_rounds_come_near_their_rows(name):
    make, row, rate = SAMPLED[name]
    arena = toy.arena(policy_draw(toy.POLICY), toy.matrix_judge, rate)
    state, _ = play(make(arena), 20_000)
    want = exact(row)
    close(logps_of(state), want, atol=float(np.abs(want - LOGPS).max() / 4))
