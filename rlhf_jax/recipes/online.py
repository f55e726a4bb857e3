"""Online recipes: sample answers, score them, update; methods are data.

    method = grpo(lab, samples=8, kl=Penalty(0.04, k3))
    params = online(stage, lab, task, method, reward, sft, rows, fit, key=stage_key(lab, "grpo"))

A method is how many answers it wants, one function from a scored rollout to a batch, and one
objective of that batch (`recipes.methods`). Nothing else in a run depends on it: other samplers, KL
targets, pretraining mixes and the table of completions are options of `online`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.data.loader import batches
from rlhf_jax.recipes.completions import make_table
from rlhf_jax.recipes.constraints import CostLimits, DualState, first_multipliers, named_costs
from rlhf_jax.recipes.episodes import Turns, task_rollout, transcripts
from rlhf_jax.recipes.flops import online_flops
from rlhf_jax.recipes.guards import LateChecks
from rlhf_jax.recipes.lab import LanguageLab, hold_params, make_prompts, start_training
from rlhf_jax.recipes.offline import Fit
from rlhf_jax.recipes.online_method import KLTarget, Mix, OnlineMethod, make_prepare, make_step
from rlhf_jax.recipes.rewards import Reward, known_reward, not_on_host
from rlhf_jax.recipes.rounds import Drawn, informative_batch, make_grade
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.task import Scores, Task
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import on_host, split_batch
from rlhf_jax.training import Stage, UserError, train_stage
from rlhf_jax.training.clock import Clock
from rlhf_jax.types import Params, Prompts, Rollout, TrainState


class OnlineState(NamedTuple):
    """train: of the update. beta: KL weight of the next step. rounds: rounds of prompts drawn.

    ahead: the answers of the next step, where they are drawn one step ahead. dual: multipliers of
    the next step, where there are limits.
    """

    train: TrainState
    beta: Float[Array, ""]
    rounds: int
    ahead: Rollout | tuple[()] = ()
    dual: DualState | tuple[()] = ()


def online(
    stage: Stage,
    lab: LanguageLab,
    task: Task,
    method: OnlineMethod,
    reward: Reward,
    ref_params: Params,
    numbers: Rows,
    fit: Fit,
    *,
    key: jax.Array,
    sampling: SamplingConfig | None = None,
    kl_target: KLTarget | None = None,
    mix: Mix | None = None,
    limits: CostLimits | None = None,
    completions_every: int = 0,
    episode_length: int | None = None,
    sampler_gap: float | None = None,
    overlap: bool = False,
) -> Params:
    """Improves the reference policy on fresh answers; returns the policy's params.

    Args:
      ref_params: of the policy, where training starts and what KL is measured to.
      numbers: the prompts of each step, `numbers[i]` [B], e.g. `prompt_rows(task, ...)`. Dynamic
        sampling reads on beyond the number of steps.
      fit: `measure` is given the policy's params. A schedule in the optimizer also counts the
        method's epochs and minibatches. `parts` are of each gradient step; it must be 1 with
        a mix and for PPO with whitened advantages, the losses of which are no sums over rows.
      key: of this run's draws.
      sampling: how answers are drawn, the lab's way if None. Where that is not the policy itself
        (temperature, top-k, top-p) an answer weighs min(pi / pi_sampler, 2) in the mean; methods
        of pairs take them as they come.
      kl_target: moves the method's beta, which must be > 0, after each step.
      limits: on mean costs, which are scores of the task that its objective leaves out; a method
        reads the reward less the costs, and "scores/mean" stays the reward's. Not with dynamic
        sampling, nor with a reward of steps or comparisons.
      completions_every: steps from one whose answers are written to the stage's table
        (`recipes.completions`) to the next; 0 writes none.
      episode_length: of a task with a step, as in `episodes.task_rollout`.
      sampler_gap: the largest difference allowed between the sampler's and the trainer's log-prob
        of a token, which is then computed in each step and logged; None does neither.
      overlap: the answers of the next step are drawn while the host scores these. They are then of
        the policy before one update, the first step's aside, and weigh min(pi / pi_sampler, 2) as
        with `sampling`; only the gap of the first step is checked. A checkpoint has them, so that a
        resumed run is the uninterrupted one.
    Raises:
      UserError: the two differ by more.
    """
    _check_options(method, task, kl_target, completions_every, overlap)
    dual = () if limits is None else _first_dual(limits, method, reward)
    ref_params = hold_params(lab, ref_params, lab.axes["policy"])
    update = make_step(lab, method, fit.optimizer, mix_weight=mix and mix.weight, parts=fit.parts)
    start = method.start(ref_params)
    train, step = start_training(lab, start, method.axes, fit.optimizer, update)
    source = reward if method.rounds is None else known_reward()
    options: dict[str, Any] = {"sampling": sampling, "kl_target": kl_target}
    options |= {"keep_scores": completions_every > 0, "stale": overlap}
    options |= {"compare": sampler_gap is not None, "limits": limits}
    prepare = jax.jit(make_prepare(lab, method, source, **options))
    draw_some = partial(task_rollout, lab, task, sampling=sampling, episode_length=episode_length)
    roll = _make_roll(lab, task, method, numbers, key, draw_some)
    draw = _make_draw_batch(lab, method, reward, roll, stage.run.clock)
    table = make_table(stage, lab, task, every=completions_every) if completions_every else None
    clock, checks = stage.run.clock, LateChecks(stage, sampler_gap)

    def one(state: OnlineState, i: int) -> tuple[OnlineState, dict[str, Any]]:
        params, order_key = state.train.params, _draw_keys(method, key, state.rounds)[1]
        ahead = state.ahead
        if overlap and i + 1 < fit.steps:
            with clock("sample"):
                ahead = roll(params, state.rounds + 1).rollout
        drawn, rounds, found = draw(params, state.rounds, state.ahead)
        given = (params, ref_params, source.params, drawn.given, drawn.rollout, state.beta)
        with clock("update"):
            costs = () if limits is None else (state.dual, named_costs(limits, drawn.named))
            batch, measured, more = prepare(*given, drawn.turns, costs)
            rows = () if mix is None else mix.rows[i]
            train, metrics = step(state.train, (batch, rows), order_key)
            gap = None if overlap and i > 0 else measured.get("sampler/gap")
            checks.see(train, train.params, batch, metrics["loss"], i, gap)
        clock.flops += online_flops(lab, drawn.rollout, epochs=(method.passes or (1,))[0])
        with clock("measure"):
            if table is not None and i % completions_every == 0:
                table(i, drawn, more["scores"])
            metrics |= measured | found | fit.measure(method.policy(train.params), i)
        beta, dual = more.get("beta", state.beta), more.get("dual", ())
        return OnlineState(train, beta, rounds, ahead, dual), metrics

    first = OnlineState(train, jnp.asarray(method.beta, jnp.float32), 0, dual=dual)
    if overlap:
        first = first._replace(ahead=roll(train.params, 0).rollout)
    done = train_stage(
        stage,
        one,
        first,
        steps=fit.steps,
        save_every=fit.save_every,
        settle=lambda state: checks.settle(state.train.params),
    )
    return method.policy(done.train.params)


def _check_options(
    method: OnlineMethod, task: Task, kl_target: KLTarget | None, every: int, overlap: bool
) -> None:
    """ValueError for a target of a method without a KL weight, a negative number of steps, or
    answers drawn ahead that depend on scores or on a task's steps."""
    check_range("[0, inf)", completions_every=every)
    if kl_target is not None and not method.beta > 0:
        raise ValueError("kl_target moves a KL weight, and this method has none: give it one > 0")
    if overlap and (method.rounds is not None or task.step is not None):
        cause = "dynamic sampling" if method.rounds is not None else "a task with a step"
        raise ValueError(f"overlap draws answers before others are scored, and {cause} cannot")


def _first_dual(limits: CostLimits, method: OnlineMethod, reward: Reward) -> DualState:
    """Of these limits; ValueError where what a method learns from is no score of an answer."""
    if method.rounds is not None:
        raise ValueError("limits weigh costs after answers are kept: not with dynamic sampling")
    if reward.steps is not None or reward.prefs is not None:
        raise ValueError("limits weigh costs against scores of answers, not of steps or pairs")
    return first_multipliers(limits)


class _Rolled(NamedTuple):
    """A round's answers on the device."""

    prompts: Prompts
    rollout: Rollout
    turns: Turns | None


def _make_roll(
    lab: LanguageLab,
    task: Task,
    method: OnlineMethod,
    numbers: Rows,
    key: jax.Array,
    draw_some: Callable[..., tuple[Rollout, Turns | None]],
) -> Callable[..., _Rolled]:
    """`(trained params, round) -> answers`; a third argument takes the place of drawing them."""

    def roll(params: Params, number: int, known: Rollout | tuple[()] = ()) -> _Rolled:
        prompts = make_prompts(lab, task, numbers[number])
        if isinstance(known, Rollout):
            return _Rolled(prompts, known, None)
        draw_key, _ = _draw_keys(method, key, number)
        return _Rolled(
            prompts, *draw_some(method.policy(params), prompts, draw_key, method.samples)
        )

    return roll


def _make_draw_batch(
    lab: LanguageLab,
    method: OnlineMethod,
    reward: Reward,
    roll: Callable[..., _Rolled],
    clock: Clock,
) -> Callable[..., tuple[Drawn, int, dict[str, Any]]]:
    """`(trained params, rounds before, answers if drawn) -> (Drawn, rounds now, metrics)`."""

    def draw_round(params: Params, number: int, known: Rollout | tuple[()] = ()) -> Drawn:
        with clock("sample"):
            prompts, rollout, turns = roll(params, number, known)
            found = transcripts(rollout, turns)
            if reward.host is not not_on_host:
                found = on_host(found)
        with clock("score"):
            given, named = reward.host(prompts, found)
        return Drawn(prompts, rollout, given, named, turns)

    grade = make_grade(reward)

    def draw(
        params: Params, before: int, known: Rollout | tuple[()]
    ) -> tuple[Drawn, int, dict[str, Any]]:
        if method.rounds is None:
            drawn = draw_round(params, before, known)
            return drawn, before + 1, _named_means(drawn.named)
        drawn, count, metrics = informative_batch(
            lambda more: draw_round(params, before + more), grade, rounds=method.rounds
        )
        metrics |= _named_means(drawn.named)
        if lab.mesh is not None:
            rollout, turns = split_batch((drawn.rollout, drawn.turns), lab.mesh)
            drawn = drawn._replace(rollout=rollout, turns=turns)
        return drawn, before + count, metrics

    return draw


def _draw_keys(method: OnlineMethod, key: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Keys of a round's answers and of the order of its minibatches."""
    here = jax.random.fold_in(key, number)
    if method.passes is None:
        return here, here
    draw_key, order_key = jax.random.split(here)
    return draw_key, order_key


def _named_means(named: Scores) -> dict[str, tuple[float, int]]:
    """The mean of every named score as total and weight, "named/<name>"."""
    means = {}
    for name, scores in named.items():
        finite = scores[np.isfinite(scores)]
        means[f"named/{name}"] = (float(finite.sum()), finite.size)
    return means


def prompt_rows(task: Task, *, batch_size: int, seed: int, split: str = "train") -> Rows:
    """Numbers of the prompts of each step, [B], each prompt once before any comes again.

    Raises:
      UserError: no such split.
    """
    if split not in task.splits:
        raise UserError(f"split must be one of {sorted(task.splits)}, got {split!r}")
    prompts = task.splits[split]
    return batches(
        len(prompts),
        batch_size=batch_size,
        seed=seed,
        batch_fn=lambda rows: np.asarray(rows) + prompts.start,
    )
