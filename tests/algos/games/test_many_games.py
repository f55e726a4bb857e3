"""Many small games, computed with the answers first, against the same games one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos import games
from rlhf_jax.algos.games.many import (
    GAMES,
    answers_first,
    answers_last,
    columnwise_win_rates,
    log_softmax_of,
    many_small,
    turns,
)
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.algos.games.steps import mirror_step
from rlhf_jax.envs.games import random_game, random_reference
from rlhf_jax.ops.games import win_rates

N = 3


def drawn() -> tuple[jax.Array, jax.Array]:
    """prefs [2, GAMES / 2, N, N] and references [2, GAMES / 2, N], one of them without answer 0."""
    keys = jax.random.split(jax.random.key(0), (2, 2, GAMES // 2))
    refs = random_reference(keys[1], N)
    return random_game(keys[0], N), refs.at[0, 0, 0].set(-jnp.inf)


def test_only_many_games_of_few_answers_are_turned():
    assert many_small(jnp.zeros((2, GAMES // 2, 16)))
    assert not many_small(jnp.zeros((GAMES - 1, 16)))
    assert not many_small(jnp.zeros((GAMES, 17)))
    assert not many_small(jnp.zeros((GAMES, 1)))
    assert not many_small(jnp.zeros(N))


def test_turns_are_inverse_and_leave_scalars():
    x = jnp.arange(24.0).reshape(2, 4, 3)
    assert answers_first(x).shape == (3, 2, 4)
    assert answers_first(x, 2).shape == (4, 3, 2)
    np.testing.assert_array_equal(answers_last(answers_first(x)), x)
    turn, back = turns(jnp.zeros((GAMES, N)))
    state = {"policies": jnp.zeros((GAMES, N)), "step": jnp.zeros(())}
    assert turn(state)["policies"].shape == (N, GAMES)
    assert back(turn(state))["policies"].shape == (GAMES, N)
    turn, _ = turns(jnp.zeros((2, N)))
    assert turn(state)["policies"].shape == (GAMES, N)


def test_parts_are_those_of_few_games():
    prefs, refs = drawn()
    want = win_rates(prefs, jnp.exp(refs))
    probs = answers_first(jnp.exp(refs))
    found = jax.jit(columnwise_win_rates)(answers_first(prefs, 2), probs)
    np.testing.assert_allclose(answers_last(found), want, rtol=1e-6)
    scores = 50.0 * refs + 100.0
    found = jax.jit(lambda x, y: log_softmax_of(jnp.add, x, y))(scores, want)
    np.testing.assert_allclose(found, jax.nn.log_softmax(scores + want), rtol=1e-5, atol=1e-5)
    assert found[0, 0, 0] == -jnp.inf


def test_a_gradient_passes_through_a_step():
    _, refs = drawn()
    refs = refs[1]
    wins = jnp.linspace(0.0, 1.0, refs.size).reshape(refs.shape)

    @jax.jit
    @jax.grad
    def slopes(wins, refs):
        return jnp.sum(mirror_step(refs, refs, wins, eta=0.5, beta=0.1)[..., 0])

    many = slopes(jnp.concatenate([wins, wins]), jnp.concatenate([refs, refs]))
    np.testing.assert_allclose(many[: len(wins)], slopes(wins, refs), atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        games.nash_mp,
        pytest.param(games.nash_md, marks=pytest.mark.long),
        pytest.param(games.td_mnpo, marks=pytest.mark.long),
    ],
)
def test_a_run_is_that_of_each_game(method):
    prefs, refs = drawn()
    more = {"history_weights": (0.5, 0.5)} if method is games.td_mnpo else {}

    def run(prefs, ref):
        rule = method(ref, eta=0.5, beta=0.1, **more)
        return run_updates(
            rule.update,
            rule.init(ref),
            exact_oracle(prefs),
            jax.random.key(0),
            times=(2, 5),
            record=lambda state, metrics: (state.average, metrics["kl/step"]),
        )

    many, (averages, steps) = jax.jit(run)(prefs, refs)
    each, (means, gains) = jax.jit(jax.vmap(jax.vmap(run, (0, 0)), (0, 0)))(prefs, refs)
    np.testing.assert_allclose(many.logps, each.logps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(averages, jnp.moveaxis(means, 2, 0), rtol=1e-5)
    np.testing.assert_allclose(steps, jnp.moveaxis(gains, 2, 0), rtol=1e-3, atol=1e-7)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        many.memory,
        each.memory,
    )


def test_many_policies_of_one_game_are_judged_by_it():
    prefs, refs = drawn()
    for table in (prefs[0, 0], prefs[:, :1]):
        np.testing.assert_allclose(
            exact_oracle(table)(refs, None), win_rates(table, jnp.exp(refs)), rtol=1e-6
        )
