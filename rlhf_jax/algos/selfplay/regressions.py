"""Regressions on judged pairs of answers. Online IPO and EGPO take one gradient step per round or
half round, iterative DPO some; INPO, ONPO and TD-MNPO take many, to solve the regression of a
round."""

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
    known_weights,
    start_rounds,
)
from rlhf_jax.checks import check_range
from rlhf_jax.losses.games import inpo_loss, mnpo_loss, online_ipo_loss, onpo_loss
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import (
    Draw,
    Metrics,
    PairLoss,
    Params,
    Prompts,
    Scalar,
    TrainState,
    Trajectory,
    Update,
)

TrajectoryLogps = Callable[[Params, Trajectory], Array]


def online_ipo(arena: Arena, *, beta: Scalar, pair_draw: Draw | None = None) -> AnswerMethod:
    """Online IPO, first form: one gradient step per round, in self-play.

    L = (D - [P(y > y'') - P(y' > y'')] / beta)^2,   y'' from pi_t, D the gap of log-ratios to mu.

    With uniform pairs and plain gradient descent on a table of n answers it is online mirror
    descent at eta = 4 lr / (beta n). The update is linear in the judge's verdicts, so probabilities
    need not be turned into labels.

    Args:
      beta: KL weight > 0.
      pair_draw: draws y and y' from the policy, e.g. at temperature 2 to approach uniform answers;
        None is the arena's own draw. With pairs from pi_t itself the step is a policy gradient, no
        longer a mirror step.
    Returns:
      AnswerMethod. Metrics: those of `make_pair_update` and "prefs/mean", P(y > y'').
    Reference: Zhou et al. 2025, arXiv:2503.08942.
    """
    step = _opposed_step(arena, beta, pair_draw)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        train, metrics = step(state.train, state.train.params, prompts, key)
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def egpo(arena: Arena, *, beta: Scalar, pair_draw: Draw | None = None) -> AnswerMethod:
    """EGPO, extragradient: two gradient steps of online IPO per round, both from pi_t.

    The first has opponent and pairs from pi_t and gives pi_{t+1/2}. The second starts again from
    the params and the optimiser state of pi_t, with opponent and pairs from pi_{t+1/2}, and gives
    pi_{t+1}.

    Args, Returns: as `online_ipo`; the metrics are those of the second step.
    Reference: Zhou et al. 2025, arXiv:2503.08942.
    """
    step = _opposed_step(arena, beta, pair_draw)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        first, second = jax.random.split(key)
        half, _ = step(state.train, state.train.params, prompts, first)
        train, metrics = step(state.train, half.params, prompts, second)
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def iterative_dpo(arena: Arena, *, beta: Scalar, steps: int) -> AnswerMethod:
    """Iterative DPO: a round is `steps` gradient steps of DPO on labelled pairs from pi_t.

    The reference stays mu. Labels are drawn as in `inpo`. DPO fits Bradley-Terry scores to them,
    which preferences that go round do not have: the baseline of the other methods.

    Args:
      beta: KL weight > 0.
      steps: gradient steps on the round's pairs, >= 1; the optimiser state goes on from round to
        round.
    Returns:
      AnswerMethod. Metrics as `inpo`, of the last step.
    Raises:
      ValueError: beta or steps <= 0.
    Reference: Xu et al. 2023, arXiv:2312.16682; Xiong et al. 2023, arXiv:2312.11456.
    Departs: pairs are two answers of the policy, neither filtered nor kept for later rounds.
    """
    check_range("(0, inf)", beta=beta)
    check_range("[1, inf)", steps=steps)
    loss = partial(dpo_loss, beta=beta)
    update = arena.compile(_pair_update(arena, loss))
    logps = _answer_logps(arena)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        winner, loser, weights, prefs = labelled_pairs(arena, state.train.params, prompts, key)
        columns = {
            "ref_chosen_logps": logps(arena.ref_params, winner),
            "ref_rejected_logps": logps(arena.ref_params, loser),
        }
        train, metrics = state.train, {}
        for _ in range(steps):
            train, metrics = update(train, PairBatch(winner, loser, columns, weights))
        return AnswerState(train, (), state.round + 1), metrics | prefs

    return AnswerMethod(partial(start_rounds, arena), play)


def inpo(arena: Arena, *, eta: Scalar, beta: Scalar, steps: int) -> AnswerMethod:
    """INPO: a round is one regression on labelled pairs from pi_t; its solution is a mirror step.

    This holds if both answers are drawn from pi_t and the winner is drawn with its probability of
    winning. So the round draws labels from the judge's probabilities, and no pair is filtered out.

    Args:
      eta: step size > 0 with eta beta <= 1; ONE OVER the paper's eta.
      beta: KL weight >= 0; tau in the paper.
      steps: gradient steps on the pairs of a round, >= 1, from pi_t and a fresh optimiser state.
    Returns:
      AnswerMethod. Metrics: those of `make_pair_update`, where first is the winner and second the
      loser, and "prefs/mean".
    Raises:
      ValueError: eta or steps <= 0, beta < 0, or eta beta > 1.
    Reference: Zhang et al. 2024, arXiv:2407.00617, Eq. 8.
    Departs: two answers per prompt; the experiments of the paper use the best and worst of 8.
    """
    check_step(eta, beta)
    solve, logps = _solver(arena, partial(inpo_loss, beta=beta, eta=eta), eta=eta, steps=steps)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        params = state.train.params
        winner, loser, weights, prefs = labelled_pairs(arena, params, prompts, key)
        columns = {
            "ref_chosen_logps": logps(arena.ref_params, winner),
            "ref_rejected_logps": logps(arena.ref_params, loser),
            "old_gaps": logps(params, winner) - logps(params, loser),
        }
        train, metrics = solve(state.train, PairBatch(winner, loser, columns, weights))
        return AnswerState(train, (), state.round + 1), metrics | prefs

    return AnswerMethod(partial(start_rounds, arena), play)


def onpo(arena: Arena, *, eta: Scalar, steps: int) -> AnswerMethod:
    """ONPO: a round is two regressions on labelled pairs from pi_t; solved, optimistic Hedge.

    The first goes from the old base to the new one, the second from the new base to pi_{t+1}, on
    the same pairs, each with step eta. Labels are drawn as in `inpo`, for the same reason.

    Args:
      eta: step size > 0.
      steps: gradient steps per regression, >= 1, each with a fresh optimiser state; the first
        starts at pi_t and the second at the new base.
    Returns:
      AnswerMethod; `memory` is the params of the base. Metrics as `inpo`, of the second regression.
    Reference: Zhang et al. 2025, arXiv:2502.16852. No official code; as `onpo_loss`.
    """
    solve, logps = _solver(arena, partial(onpo_loss, eta=eta), eta=eta, steps=steps)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        winner, loser, weights, prefs = labelled_pairs(arena, state.train.params, prompts, key)

        def regress(train: TrainState, base: Params) -> tuple[TrainState, Metrics]:
            columns = {
                "base_chosen_logps": logps(base, winner),
                "base_rejected_logps": logps(base, loser),
            }
            return solve(train, PairBatch(winner, loser, columns, weights))

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
    """TD-MNPO: a round is one regression on labelled pairs from pi_t, anchored at past policies.

    The anchors are mu with weight rho = eta beta, and pi_t .. pi_{t-K+1} with weights
    (1 - rho) lambda_j. Its solution is `games.td_mnpo`. Labels are drawn as in `inpo`.

    Args:
      eta, beta, steps: as in `inpo`; `ratio` in the official code is rho.
      history_weights: [K] lambda >= 0, newest first, summing to 1; (1,) is `inpo`.
    Returns:
      AnswerMethod; `memory` is a tuple of the params of pi_{t-1} .. pi_{t-K+1}. Metrics as `inpo`.
    Raises:
      ValueError: as `inpo`; history_weights are negative or do not sum to 1.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 17.
    Departs: the history starts with K copies of the first policy; the official code starts with a
      shorter history.
    """
    check_step(eta, beta)
    shares = np.asarray(check_weights(history_weights))
    # The loss is linear in the anchors, so their weighted sum is passed as one anchor of weight 1.
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
        winner, loser, weights, prefs = labelled_pairs(arena, past[0], prompts, key)
        columns = {
            "chosen_anchor_logps": anchor(past, winner),
            "rejected_anchor_logps": anchor(past, loser),
        }
        train, metrics = solve(state.train, PairBatch(winner, loser, columns, weights))
        return AnswerState(train, past[:-1], state.round + 1), metrics | prefs

    def init(params: Params) -> AnswerState:
        return start_rounds(arena, params, (params,) * (len(shares) - 1))

    return AnswerMethod(init, play)


def _opposed_step(
    arena: Arena, beta: Scalar, pair_draw: Draw | None
) -> Callable[[TrainState, Params, Prompts, jax.Array], tuple[TrainState, Metrics]]:
    """A step of online IPO from `train`, with pairs and opponent drawn from `params`."""
    check_range("(0, inf)", beta=beta)
    pairs = arena.draw if pair_draw is None else pair_draw
    loss = partial(online_ipo_loss, beta=beta)
    update = arena.compile(_pair_update(arena, loss))
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
        weights = known_weights(None, prefs, second_prefs)
        train, metrics = update(train, PairBatch(first, second, columns, weights))
        return train, metrics | {"prefs/mean": weighted_mean(prefs, weights)}

    return step


def labelled_pairs(
    arena: Arena, params: Params, prompts: Prompts, key: jax.Array
) -> tuple[Trajectory, Trajectory, Float[Array, "B"] | None, Metrics]:
    """Winners and losers [B] of pairs from the policy, their weights, the metric "prefs/mean".

    The winner is drawn with the judge's probability; a pair without a verdict weighs 0.
    """
    draw_key, label_key = jax.random.split(key)
    first, second = draw_answers(arena.draw, params, prompts, draw_key, 2)
    prefs = judge_answers(arena, prompts.indices, first, second)
    won = jax.random.bernoulli(label_key, prefs)

    def chosen(one: Array, other: Array) -> Array:
        return jnp.where(won.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    winner = jax.tree.map(chosen, first, second)
    loser = jax.tree.map(chosen, second, first)
    weights = known_weights(None, prefs)
    return winner, loser, weights, {"prefs/mean": weighted_mean(prefs, weights)}


def _pair_update(arena: Arena, loss: PairLoss) -> Update[TrainState, PairBatch]:
    """The update of the arena's policy on a loss of pairs."""
    options = {"logps": arena.logps, "penalty": arena.penalty}
    return make_pair_update(arena.policy, arena.optimizer, loss, **options)


def _solver(
    arena: Arena, loss: PairLoss, *, eta: Scalar, steps: int
) -> tuple[Update[TrainState, PairBatch], TrajectoryLogps]:
    """A solver `(train, batch) -> (train, metrics)`, which takes gradient steps from a fresh
    optimiser state; and `_answer_logps`."""
    check_range("(0, inf)", eta=eta)
    check_range("[1, inf)", steps=steps)
    update = _pair_update(arena, loss)

    def solve(train: TrainState, batch: PairBatch) -> tuple[TrainState, Metrics]:
        fresh = init_state(train.params, arena.optimizer)._replace(step=train.step)
        train, metrics = jax.lax.scan(lambda train, _: update(train, batch), fresh, length=steps)
        return train, jax.tree.map(lambda x: x[-1], metrics)

    return arena.compile(solve), _answer_logps(arena)


def _answer_logps(arena: Arena) -> TrajectoryLogps:
    """Compiled `(params, trajectory) -> [B]` log-probs, reduced as for the loss."""
    return arena.compile(partial(trajectory_logps, arena.policy, logps=arena.logps))
