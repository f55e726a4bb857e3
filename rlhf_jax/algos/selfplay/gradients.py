"""Policy gradients on judged answers: Nash-MD-PG, Nash-EMA-PG and Nash mirror prox."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.games.steps import check_step
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
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
from rlhf_jax.losses.games import nash_md_pg_loss
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import Draw, Metrics, Params, Prompts, Scalar, TrainState, Trajectory


def nash_md_pg(arena: Arena, *, beta: Scalar, mixed_draw: Draw | None = None) -> AnswerMethod:
    """Nash-MD-PG: a policy gradient step per round, against the mixture with the reference.

    y from pi_t, y' from pi_t^(1 - b) mu^b,   reward P(y > y') - 1/2, beta KL to go.

    The update is linear in the judge's verdicts, so probabilities need not be turned into labels.

    Args:
      beta: KL weight >= 0; tau in the paper.
      mixed_draw: draws the opponent's answers from params `(params, ref_params)`. For language, use
        `language_draw(mixture_decoder(decoder, weight=b), config)`, which mixes at every token.
        None means b = 0 (self-play). Only then is the regularised Nash policy a stationary point.
    Returns:
      AnswerMethod. Metrics: those of `make_answer_update`, "prefs/mean", and "kl/ref", the mean
      log-ratio of an answer to the reference, summed over tokens, in nats.
    Reference: Munos et al. 2023, arXiv:2312.00886.
    """

    def opponent(state: AnswerState) -> tuple[Draw, Params]:
        if mixed_draw is None:
            return arena.draw, state.train.params
        return mixed_draw, (state.train.params, arena.ref_params)

    return _gradient_method(arena, beta, opponent, lambda params: (), lambda memory, params: memory)


def nash_ema_pg(arena: Arena, *, beta: Scalar, decay: float) -> AnswerMethod:
    """Nash-EMA-PG: a policy gradient step per round, against a moving average of the params.

    y from pi_t, y' from the policy of a_t,   a_{t+1} = d a_t + (1 - d) params_{t+1}.

    Args:
      beta: KL weight >= 0.
      decay: d in [0, 1]; 0 is self-play, 1 always plays the first policy.
    Returns:
      AnswerMethod; `memory` is a_t, which the paper also evaluates. Metrics as `nash_md_pg`.
    Reference: Munos et al. 2023, arXiv:2312.00886.
    Departs: as `algos.games.opponents.moving_average`.
    """
    check_range("[0, 1]", decay=decay)

    @arena.compile
    def track(memory: Params, params: Params) -> Params:
        return optax.incremental_update(params, memory, 1.0 - decay)

    def opponent(state: AnswerState) -> tuple[Draw, Params]:
        return arena.draw, state.memory

    return _gradient_method(arena, beta, opponent, lambda params: params, track)


def nash_mp_pg(arena: Arena, *, eta: Scalar, beta: Scalar, steps: int) -> AnswerMethod:
    """Nash mirror prox: two half rounds of policy gradients from pi_t, each towards a mirror step.

    argmax_pi P(pi > q) - beta KL(pi || mu) - c KL(pi || pi_t),   c = 1 / eta - beta,

    by `steps` gradient steps on fresh answers of pi, with q and pi_t fixed. The first half has
    q = pi_t and ends at pi_{t+1/2}; the second starts at pi_t and its optimiser state again, with
    q = pi_{t+1/2}. The two KL terms equal one, to mu^(eta beta) pi_t^(1 - eta beta) with weight
    1 / eta. With many steps it tends to `games.nash_mp`; with few it is less exact, and stable at
    larger eta.

    Args:
      eta: step size > 0 with eta beta <= 1. The paper's eta' gives eta = eta' / (beta (1 + eta'));
        its eta' = 2 beta gives eta = 2 / (1 + 2 beta).
      beta: KL weight >= 0.
      steps: gradient steps per half, >= 1. A round calls the judge 2 * steps times.
    Returns:
      AnswerMethod. Metrics as `nash_md_pg`, of the last step.
    Raises:
      ValueError: eta or steps <= 0, beta < 0, or eta beta > 1.
    Reference: Tiapkin et al. 2025, arXiv:2505.19731.
    Departs: the inner steps are ours; the paper's were not available beyond its abstract.
    """
    check_range("(0, inf)", eta=eta)
    check_range("[1, inf)", steps=steps)
    check_step(eta, beta)
    weight = eta * beta
    step = _gradient_step(arena, 1.0 / eta)

    def anchor(ref_params: Params, centre: Params, answer: Trajectory) -> tuple[Array, Array]:
        ref, old = (_token_logps(arena, params, answer) for params in (ref_params, centre))
        return weight * ref + (1.0 - weight) * old, ref

    anchor = arena.compile(anchor)

    def half(
        train: TrainState, opponent: Params, prompts: Prompts, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        centre, metrics = train.params, {}
        for number in range(steps):
            here = jax.random.fold_in(key, number)
            train, metrics = step(
                train,
                (arena.draw, opponent),
                prompts,
                here,
                anchor=lambda answer: anchor(arena.ref_params, centre, answer),
            )
        return train, metrics

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        first, second = jax.random.split(key)
        middle, _ = half(state.train, state.train.params, prompts, first)
        train, metrics = half(state.train, middle.params, prompts, second)
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def _gradient_method(
    arena: Arena,
    beta: Scalar,
    opponent: Callable[[AnswerState], tuple[Draw, Params]],
    remember: Callable[[Params], Any],
    track: Callable[[Any, Params], Any],
) -> AnswerMethod:
    """One gradient step per round against `opponent(state) -> (draw, params)`."""
    step = _gradient_step(arena, beta)
    reference = arena.compile(partial(_token_logps, arena))

    def anchor(answer: Trajectory) -> tuple[Array, Array]:
        ref = reference(arena.ref_params, answer)
        return ref, ref

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        train, metrics = step(state.train, opponent(state), prompts, key, anchor=anchor)
        return AnswerState(train, track(state.memory, train.params), state.round + 1), metrics

    return AnswerMethod(lambda params: start_rounds(arena, params, remember(params)), play)


def _gradient_step(arena: Arena, beta: Scalar) -> Callable[..., tuple[TrainState, Metrics]]:
    """A step that draws, judges and updates.

    `anchor(answer) -> (log-probs of the policy that the KL penalty pulls to, reference log-probs)`.
    """
    loss = partial(nash_md_pg_loss, beta=beta)
    update = arena.compile(
        make_answer_update(arena.policy, arena.optimizer, loss, penalty=arena.penalty)
    )

    def step(
        train: TrainState,
        opponent: tuple[Draw, Params],
        prompts: Prompts,
        key: jax.Array,
        *,
        anchor: Callable[[Trajectory], tuple[Array, Array]],
    ) -> tuple[TrainState, Metrics]:
        own_key, other_key = jax.random.split(key)
        rollout = arena.draw(train.params, prompts, own_key, 1)
        answer = jax.tree.map(lambda x: x[:, 0], rollout.trajectory)
        (other,) = draw_answers(*opponent, prompts, other_key, 1)
        prefs = judge_answers(arena, prompts.indices, answer, other)
        weights = arena.weigh(rollout)
        weights = known_weights(None if weights is None else weights[:, 0], prefs)
        anchor_logps, ref_logps = anchor(answer)
        batch = AnswerBatch(answer, {"ref_token_logps": anchor_logps, "prefs": prefs}, weights)
        train, metrics = update(train, batch)
        ref = weighted_mean(sequence_logps(ref_logps, answer.mask), weights)
        kl = metrics["logps/answer"]._replace(total=metrics["logps/answer"].total - ref.total)
        return train, metrics | {"prefs/mean": weighted_mean(prefs, weights), "kl/ref": kl}

    return step


def _token_logps(arena: Arena, params: Params, answer: Trajectory) -> Float[Array, "*B T"]:
    """log pi of each token."""
    return arena.policy.logps(params, answer.inputs, answer.actions)
