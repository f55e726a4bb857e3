"""Safe-set control on a table: plan a few steps that end where the goal was reached before.

Four things are fitted exactly to a record of whole trajectories: a model (the most frequent
successor), the constraint (forbidden cells that were entered), the safe set, and the value of the
recorded behaviour. `safe_policy` plans with them; `add` puts new episodes into the record.

This follows LS3 (Wilcox et al. 2021, arXiv:2107.04775), with tables for its networks. To keep the
shortest of `first_successes` is a reading of what "optimistic forgetting" (arXiv:2501.04481) may
be: only the abstract of that paper was available, and this is not its algorithm.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.ops.linear_systems import solve
from rlhf_jax.types import Scalar


class Replay(NamedTuple):
    """states: [N, T + 1] int; actions: [N, T] int; mask: [N, T] True at the steps that were made,
    from the start of a row; successes, violations: [N] True if the last state is a goal, or is
    forbidden. An empty row has no steps."""

    states: Array
    actions: Array
    mask: Array
    successes: Array
    violations: Array


class Model(NamedTuple):
    """successors: [S, A] most frequent next state; known: [S, A] whether any was seen; goal,
    unsafe: [S] states in which a success, or a violation, was seen."""

    successors: Array
    known: Array
    goal: Array
    unsafe: Array


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters of the fits and the planner; defaults as in LS3, except its horizon of 5.

    horizon: number of planned steps; every sequence of actions is tried.
    threshold, relax, retries: a plan must end in a state with f >= threshold. If no plan is
      feasible, the threshold is multiplied by `relax`, up to `retries` times; after that all
      actions are allowed.
    safe_gamma: discount of the safe set. gamma: discount of the value.
    unseen: value of a state without recorded steps.
    """

    horizon: int = 4
    threshold: float = 0.8
    relax: float = 0.8
    retries: int = 5
    safe_gamma: float = 0.9
    gamma: float = 0.99
    unseen: float = -80.0

    def __post_init__(self):
        check_fields(self, "(0, 1)", "threshold", "relax", "safe_gamma", "gamma")
        check_fields(self, "[1, inf)", "horizon")
        check_fields(self, "[0, inf)", "retries")
        check_fields(self, "(-inf, inf)", "unseen")


def lengths(replay: Replay) -> Int[Array, " N"]:
    """Number of steps of each trajectory."""
    return jnp.sum(replay.mask, axis=-1)


def add(replay: Replay, episodes: Replay, row: Int[Array, ""] | int) -> Replay:
    """The record with its rows from `row` on replaced by these episodes."""
    write = jax.lax.dynamic_update_slice_in_dim
    return jax.tree.map(lambda old, new: write(old, new, row, axis=0), replay, episodes)


def first_successes(
    replay: Replay, order: Float[Array, " N"] | Int[Array, " N"], *, k: Int[Array, ""] | int
) -> Bool[Array, " N"]:
    """The k successes with the smallest numbers in `order`, or all if there are fewer; ties go to
    the earlier row.

    Args:
      replay: all trajectories.
      order: `lengths(replay)` keeps the best, minus the row a window of the latest, random numbers
        any k.
      k: number to keep; may be traced. k = 1 imitates one trajectory.
    Returns:
      [N] bool: rows for the safe set and the value. The model and the constraint use all rows; if
      they forgot a failure, the planner would repeat it.
    Departs: the best k are a reconstruction of optimistic forgetting; the abstract does not say
      which trajectories are forgotten.
    """
    ranked = jnp.argsort(jnp.where(replay.successes, order, jnp.inf), stable=True)
    rank = jnp.argsort(ranked, stable=True)
    return replay.successes & (rank < k)


def fit_model(replay: Replay, num_states: int, num_actions: int) -> Model:
    """Most frequent successors (ties go to the lower state), and states of goals and violations."""
    counts = jnp.zeros((num_states, num_actions, num_states), int)
    now, then = replay.states[:, :-1], replay.states[:, 1:]
    counts = counts.at[now, replay.actions, then].add(replay.mask.astype(int))
    last = jnp.take_along_axis(replay.states, lengths(replay)[:, None], axis=-1)[:, 0]
    nowhere = jnp.zeros(num_states, bool)
    return Model(
        successors=jnp.argmax(counts, axis=-1),
        known=jnp.any(counts > 0, axis=-1),
        goal=nowhere.at[last].max(replay.successes),
        unsafe=nowhere.at[last].max(replay.violations),
    )


def moves(replay: Replay, kept: Bool[Array, " N"], num_states: int) -> Int[Array, "S S"]:
    """Number of moves from one state to another in the kept trajectories."""
    counts = jnp.zeros((num_states, num_states), int)
    weights = (replay.mask & kept[:, None]).astype(int)
    return counts.at[replay.states[:, :-1], replay.states[:, 1:]].add(weights)


def safe_set(
    replay: Replay,
    kept: Bool[Array, " N"],
    num_states: int,
    *,
    gamma: Scalar,
    floor: Scalar = 0.0,
) -> Float[Array, " S"]:
    """f(s) = max(1{s on a kept success}, gamma max_{s' seen after s} f(s')).

    This is gamma^n, where n is the number of recorded transitions from s to a kept success.

    Args:
      replay, kept: the trajectories that count.
      gamma: in (0, 1). At 0.9 and a threshold of 0.8, states two steps from a success are safe.
      floor: in [0, 1]; smaller values are 0, which saves the sweeps that find them.
    Returns:
      [S] in [0, 1].
    """
    check_range("(0, 1)", gamma=gamma)
    check_range("[0, 1]", floor=floor)
    edges = moves(replay, kept, num_states) > 0
    there = jnp.arange(replay.states.shape[-1]) <= lengths(replay)[:, None]
    labels = there & (kept & replay.successes)[:, None]
    safe = jnp.zeros(num_states).at[replay.states].max(labels.astype(float))

    def sweep(carry):
        values, _ = carry
        ahead = gamma * jnp.max(jnp.where(edges, values, 0.0), axis=-1)
        backed_up = jnp.maximum(safe, ahead)
        return backed_up, jnp.any((backed_up > values) & (backed_up >= floor))

    values = jax.lax.while_loop(lambda carry: carry[1], sweep, (safe, jnp.array(True)))[0]
    return jnp.where(values >= floor, values, 0.0)


def behaviour_values(
    replay: Replay, kept: Bool[Array, " N"], num_states: int, *, gamma: Scalar, unseen: Scalar
) -> Float[Array, " S"]:
    """V(s) = -1 + gamma mean_{s' seen after s} V(s'), 0 in a goal, by a linear solve.

    The limit of TD(0) on the kept trajectories: the value of the recorded behaviour, not of the
    best one.

    Args:
      replay, kept: the trajectories that count.
      gamma: in [0, 1).
      unseen: value of a state without kept steps, unless it is a goal.
    """
    check_range("[0, 1)", gamma=gamma)
    counts = moves(replay, kept, num_states)
    total = jnp.sum(counts, axis=-1)
    means = counts / jnp.maximum(total, 1)[:, None]
    last = jnp.take_along_axis(replay.states, lengths(replay)[:, None], axis=-1)[:, 0]
    goal = jnp.zeros(num_states, bool).at[last].max(replay.successes)
    right = jnp.where(total > 0, -1.0, jnp.where(goal, 0.0, unseen))
    return solve(jnp.eye(num_states) - gamma * means, right[:, None])[:, 0]


def plan_scores(
    model: Model, values: Float[Array, " S"], allowed: Bool[Array, " S"], *, horizon: int
) -> Float[Array, "S A"]:
    """Best score over all action sequences, for each state and first action.

    score = V(s_H) + number of s_1..s_H in the goal. A sequence is feasible if every (s, a) was
    seen, no state is unsafe, and s_H is allowed. No action leaves a goal. The model is
    deterministic, so H backups find the same maximum as trying all A^H sequences.

    Args:
      values: [S] V.
      allowed: [S] states in which a plan may end.
      horizon: >= 1; may not be traced.
    Returns:
      [S, A], -inf where no sequence is feasible.
    """
    following = jnp.where(model.goal[:, None], jnp.arange(len(values))[:, None], model.successors)
    usable = (model.known | model.goal[:, None]) & ~model.unsafe[following]
    entered = model.goal[following].astype(float)

    def backup(_, scores):
        ahead = jnp.max(scores, axis=-1)[following]
        return jnp.where(usable, entered + ahead, -jnp.inf)

    ends = jnp.where(allowed, values, -jnp.inf)
    first = jnp.where(usable, entered + ends[following], -jnp.inf)
    return jax.lax.fori_loop(1, horizon, backup, first)


def safe_policy(
    replay: Replay, kept: Bool[Array, " N"], num_states: int, num_actions: int, *, config: Config
) -> Float[Array, "S A"]:
    """Log-probs of the planner: uniform over its best first actions, or over all actions if no plan
    is feasible at any threshold.

    Args:
      replay: all of it is used for the model and the constraint.
      kept: [N] trajectories used for the safe set and the value.
    Reference: Wilcox et al. 2021 (LS3), arXiv:2107.04775.
    Departs: tables and exact fits instead of networks, all action sequences instead of the
      cross-entropy method, the observed state instead of a learned one.
    """
    model = fit_model(replay, num_states, num_actions)
    thresholds = config.threshold * config.relax ** jnp.arange(config.retries + 1)
    safe = safe_set(replay, kept, num_states, gamma=config.safe_gamma, floor=thresholds[-1])
    values = behaviour_values(replay, kept, num_states, gamma=config.gamma, unseen=config.unseen)
    scores = jax.vmap(
        lambda least: plan_scores(model, values, safe >= least, horizon=config.horizon)
    )(thresholds)
    feasible = jnp.any(scores > -jnp.inf, axis=-1)  # [retries + 1, S]
    first = jnp.argmax(feasible, axis=0)
    chosen = jnp.take_along_axis(scores, first[None, :, None], axis=0)[0]
    chosen = jnp.where(jnp.any(feasible, axis=0)[:, None], chosen, 0.0)
    best = chosen >= jnp.max(chosen, axis=-1, keepdims=True)
    return jnp.where(best, -jnp.log(jnp.sum(best, axis=-1, keepdims=True).astype(float)), -jnp.inf)
