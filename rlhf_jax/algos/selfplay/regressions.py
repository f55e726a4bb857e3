"""Regressions on judged pairs of answers: online IPO and EGPO by the gradient step, and INPO, ONPO
and TD-MNPO by rounds that solve them."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos.games.steps import check_step, check_weights
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import PairBatch, make_pair_update
from rlhf_jax.algos.preference import trajectory_logps
from rlhf_jax.algos.selfplay.rounds import (
    AnswerMethod,
    AnswerState,
    Arena,
    draw_answers,
    judge_answers,
    start_rounds,
)
from rlhf_jax.checks import check_range
from rlhf_jax.losses.games import inpo_loss, mnpo_loss, online_ipo_loss, onpo_loss
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import Metrics, Params, Prompts, Scalar, TrainState, Trajectory


def online_ipo(arena: Arena, *, beta: Scalar, pair_draw: Callable | None = None) -> AnswerMethod:
    """Online IPO, first form: a gradient step per round, against the policy itself.

    L = (D - [P(y > y'') - P(y' > y'')] / beta)^2,   y'' from pi_t, D the gap of log-ratios to mu.

    Online mirror descent on a table with uniform pairs and plain descent, at eta = 4 lr / (beta n).
    Judgements enter linearly, so probabilities are used as they are.

    Args:
      beta: KL weight > 0.
      pair_draw: draws y and y', from the policy's params, e.g. at temperature 2 in place of
        uniform answers; the arena's own unless given. On pairs from pi_t itself the geometry is
        that of a policy gradient and no longer a mirror step.
    Returns:
      AnswerMethod. Metrics: those of `make_pair_update` and "prefs/mean", P(y > y'').
    Raises:
      ValueError: beta <= 0.
    Reference: Zhou et al. 2025, arXiv:2503.08942.
    """
    step = _opposed_step(arena, beta, pair_draw)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        train, metrics = step(state.train, state.train.params, prompts, key)
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def egpo(arena: Arena, *, beta: Scalar, pair_draw: Callable | None = None) -> AnswerMethod:
    """EGPO, extragradient: two gradient steps of online IPO per round, both from pi_t.

    The first, with opponent and pairs from pi_t, gives pi_{t+1/2}. The second starts from the
    params and the optimiser state of pi_t again (moments and counts alike), with opponent and pairs
    from pi_{t+1/2}, and gives pi_{t+1}.

    Args, Returns, Raises: as `online_ipo`; metrics are those of the second step.
    Reference: Zhou et al. 2025, arXiv:2503.08942.
    """
    step = _opposed_step(arena, beta, pair_draw)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        first, second = jax.random.split(key)
        half, _ = step(state.train, state.train.params, prompts, first)
        train, metrics = step(state.train, half.params, prompts, second)
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def inpo(arena: Arena, *, eta: Scalar, beta: Scalar, steps: int) -> AnswerMethod:
    """INPO: a round is one regression on labelled pairs from pi_t; solved, a mirror step.

    Its target, half a step for the winner, has the mirror step for its solution if both answers are
    drawn from pi_t, the opponent, and the winner is drawn by its chance of winning. So the round
    turns the judge's probabilities into labels, with its own key, and filters no pair.

    Args:
      eta: step > 0, eta beta <= 1; ONE OVER the paper's eta.
      beta: KL weight >= 0; the paper's tau.
      steps: gradient steps on the round's pairs, >= 1, from pi_t and a fresh optimiser state.
    Returns:
      AnswerMethod. Metrics: those of `make_pair_update`, first and second being winner and loser,
      and "prefs/mean".
    Raises:
      ValueError: eta or steps <= 0, beta < 0, or eta beta > 1.
    Reference: Zhang et al. 2024, arXiv:2407.00617, Eq. 8.
    Departs: pairs are not the best and worst of 8 answers, as in the paper's experiments.
    """
    check_step(eta, beta)
    solve, logps = _solver(arena, partial(inpo_loss, beta=beta, eta=eta), eta=eta, steps=steps)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        params = state.train.params
        winner, loser, prefs = labelled_pairs(arena, params, prompts, key)
        columns = {
            "ref_chosen_logps": logps(arena.ref_params, winner),
            "ref_rejected_logps": logps(arena.ref_params, loser),
            "old_gaps": logps(params, winner) - logps(params, loser),
        }
        train, metrics = solve(state.train, PairBatch(winner, loser, columns))
        return AnswerState(train, (), state.round + 1), metrics | prefs

    return AnswerMethod(partial(start_rounds, arena), play)


def onpo(arena: Arena, *, eta: Scalar, steps: int) -> AnswerMethod:
    """ONPO: a round is two regressions on labelled pairs from pi_t; solved, optimistic Hedge.

    From the last base to the new base, and from the new base to pi_{t+1}, on the same pairs, each a
    step eta. Labels as in `inpo`, and for the same reason.

    Args:
      eta: step > 0.
      steps: gradient steps of each regression, >= 1, each with a fresh optimiser state, the first
        from pi_t and the second from the new base.
    Returns:
      AnswerMethod; `memory` is the base's params. Metrics as `inpo`, of the second regression.
    Raises:
      ValueError: eta or steps <= 0.
    Reference: Zhang et al. 2025, arXiv:2502.16852. No official code; as `onpo_loss`.
    """
    solve, logps = _solver(arena, partial(onpo_loss, eta=eta), eta=eta, steps=steps)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        winner, loser, prefs = labelled_pairs(arena, state.train.params, prompts, key)

        def regress(train: TrainState, base: Params) -> tuple[TrainState, Metrics]:
            columns = {
                "base_chosen_logps": logps(base, winner),
                "base_rejected_logps": logps(base, loser),
            }
            return solve(train, PairBatch(winner, loser, columns))

        moved, _ = regress(state.train, state.memory)
        train, metrics = regress(moved, moved.params)
        return AnswerState(train, moved.params, state.round + 1), metrics | prefs

    return AnswerMethod(lambda params: start_rounds(arena, params, params), play)


def td_mnpo_regression(
    arena: Arena,
    *,
    eta: Scalar,
    beta: Scalar,
    history_weights: Float[Array, "K"] | Sequence[float],
    steps: int,
) -> AnswerMethod:
    """TD-MNPO: a round is one regression on labelled pairs from pi_t, anchored in past policies.

    The anchors are mu, weight rho = eta beta, and pi_t .. pi_{t-K+1}, weights (1 - rho) lambda_j.
    Solved, it is `games.td_mnpo`. Labels as in `inpo`, and for the same reason.

    Args:
      eta, beta, steps: as in `inpo`; the official code's `ratio` is rho.
      history_weights: [K] lambda >= 0, newest first, summing to 1; (1,) is `inpo`.
    Returns:
      AnswerMethod; `memory` is a tuple of the params of pi_{t-1} .. pi_{t-K+1}. Metrics as `inpo`.
    Raises:
      ValueError: as `inpo`; history_weights are negative or do not sum to 1.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 17.
    Departs: before the start lies the first policy, K - 1 times; the code has a shorter history.
    """
    check_step(eta, beta)
    shares = np.asarray(check_weights(history_weights))
    # The weighted sum of anchors is one anchor, of weight 1, however many policies there are.
    loss = partial(mnpo_loss, weights=jnp.ones(1), eta=eta)
    solve, logps = _solver(arena, loss, eta=eta, steps=steps)
    rho = eta * beta

    def anchor(past: tuple[Params, ...], answer: Trajectory) -> Float[Array, "B 1"]:
        history = sum(
            share * logps(params, answer) for share, params in zip(shares, past, strict=True)
        )
        return (rho * logps(arena.ref_params, answer) + (1.0 - rho) * history)[..., None]

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        past = (state.train.params, *state.memory)
        winner, loser, prefs = labelled_pairs(arena, past[0], prompts, key)
        columns = {
            "chosen_anchor_logps": anchor(past, winner),
            "rejected_anchor_logps": anchor(past, loser),
        }
        train, metrics = solve(state.train, PairBatch(winner, loser, columns))
        return AnswerState(train, past[:-1], state.round + 1), metrics | prefs

    def init(params: Params) -> AnswerState:
        return start_rounds(arena, params, (params,) * (len(shares) - 1))

    return AnswerMethod(init, play)


def _opposed_step(arena: Arena, beta: Scalar, pair_draw: Callable | None) -> Callable:
    """A step of online IPO from `train` on pairs and opponent's answers of `params`."""
    check_range("(0, inf)", beta=beta)
    pairs = arena.draw if pair_draw is None else pair_draw
    loss = partial(online_ipo_loss, beta=beta)
    update = arena.compile(make_pair_update(arena.policy, arena.optimizer, loss, logps=arena.logps))
    logps = _answer_logps(arena)

    def step(
        train: TrainState, params: Params, prompts: Prompts, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        pair_key, other_key = jax.random.split(key)
        first, second = draw_answers(pairs, params, prompts, pair_key, 2)
        (other,) = draw_answers(arena.draw, params, prompts, other_key, 1)
        prefs, second_prefs = (
            judge_answers(arena, prompts.indices, each, other) for each in (first, second)
        )
        columns = {
            "ref_first_logps": logps(arena.ref_params, first),
            "ref_second_logps": logps(arena.ref_params, second),
            "win_rate_gaps": prefs - second_prefs,
        }
        train, metrics = update(train, PairBatch(first, second, columns))
        return train, metrics | {"prefs/mean": weighted_mean(prefs)}

    return step


def labelled_pairs(
    arena: Arena, params: Params, prompts: Prompts, key: jax.Array
) -> tuple[Trajectory, Trajectory, Metrics]:
    """Winners and losers [B] of pairs from the policy, by labels drawn from the judge's prefs.

    Also the metric "prefs/mean". What the rounds here and any method of labelled pairs begin with.
    """
    draw_key, label_key = jax.random.split(key)
    first, second = draw_answers(arena.draw, params, prompts, draw_key, 2)
    prefs = judge_answers(arena, prompts.indices, first, second)
    won = jax.random.bernoulli(label_key, prefs)

    def chosen(one: Array, other: Array) -> Array:
        return jnp.where(won.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    winner = jax.tree.map(chosen, first, second)
    loser = jax.tree.map(chosen, second, first)
    return winner, loser, {"prefs/mean": weighted_mean(prefs)}


def _solver(arena: Arena, loss: Callable, *, eta: Scalar, steps: int) -> tuple[Callable, Callable]:
    """`(train, batch) -> (train, metrics)` by gradient steps with a fresh optimiser state; and
    summed log-probs."""
    check_range("(0, inf)", eta=eta)
    check_range("[1, inf)", steps=steps)
    update = make_pair_update(arena.policy, arena.optimizer, loss, logps=arena.logps)

    def solve(train: TrainState, batch: PairBatch) -> tuple[TrainState, Metrics]:
        fresh = init_state(train.params, arena.optimizer)._replace(step=train.step)
        train, metrics = jax.lax.scan(lambda train, _: update(train, batch), fresh, length=steps)
        return train, jax.tree.map(lambda x: x[-1], metrics)

    return arena.compile(solve), _answer_logps(arena)


def _answer_logps(arena: Arena) -> Callable:
    """`(params, trajectory) -> [B]`, as the loss is given them."""
    return arena.compile(partial(trajectory_logps, arena.policy, logps=arena.logps))
