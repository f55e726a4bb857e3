"""Checks while training: each stops the run and names the place.

| check | where | stops if |
|---|---|---|
| `guarded` | every gradient | one is not finite: parameters stay, the batch is saved |
| `Fit.first_loss` | first step | the loss is not the one known for policy = reference |
| `online(sampler_gap=)` | every rollout | sampler and trainer differ in the log-prob of a token |

The first and the last are made one step late (`LateChecks`), so that the host prepares a step while
the device is in the one before. Nothing is saved before its checks.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, Int

from rlhf_jax.recipes.rows import Rows
from rlhf_jax.sharding import on_host
from rlhf_jax.training import DivergedError, Stage, UserError, first_not_finite
from rlhf_jax.training.errors import naming_full_disk
from rlhf_jax.training.metrics import as_number
from rlhf_jax.training.processes import on_first
from rlhf_jax.types import PairLoss, PyTree

FIRST_LOSS_ERROR = 5e-3  # relative to 1 + |expected|; bfloat16 rounds log-probs to three digits


class Guard(NamedTuple):
    """State of a guarded optimizer. bad: number of the gradient array that was not finite first,
    in the order of the parameters' leaves; -1 while all have been finite."""

    inner: Any
    bad: Int[Array, ""]


def guarded(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer, which changes nothing from a gradient on that is not finite.

    So the parameters that gave this gradient are still there when the host looks (`check_guard`).
    """

    def init(params: PyTree) -> Guard:
        return Guard(optimizer.init(params), jnp.asarray(-1, jnp.int32))

    def update(updates: PyTree, state: Any, params: PyTree | None = None):
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(updates)])
        now = jnp.where(finite.all(), -1, jnp.argmin(finite)).astype(jnp.int32)
        bad = jnp.where(state.bad < 0, now, state.bad)
        changes, inner = optimizer.update(updates, state.inner, params)
        changes = jax.tree.map(lambda x: jnp.where(bad < 0, x, 0.0).astype(x.dtype), changes)
        inner = jax.tree.map(lambda new, old: jnp.where(bad < 0, new, old), inner, state.inner)
        return changes, Guard(inner, bad)

    return optax.GradientTransformation(init, update)


class _Seen(NamedTuple):
    """What is left to check of a step."""

    step: int
    bad: list[jax.Array]
    batch: PyTree
    loss: Any
    gap: Any


@dataclass(frozen=True)
class LateChecks:
    """`check_guard` and `check_sampler` of each step in the next one, or before the state is saved.

    bound: of the sampler; None where it is not compared. held: the newest step, if any.
    """

    stage: Stage
    bound: float | None = None
    held: list[_Seen] = field(default_factory=list)

    def see(
        self, state: PyTree, params: PyTree, batch: PyTree, loss: Any, step: int, gap: Any = None
    ) -> None:
        """Checks the step before; arguments as in `check_guard`, and the gap of `check_sampler`."""
        self.settle(params)
        # Copies: the next step takes the memory of this state.
        bad = [jnp.copy(guard.bad) for guard in _guards(state)]
        self.held.append(_Seen(step, bad, batch, loss, gap))

    def settle(self, params: PyTree) -> None:
        """Checks what is held; the params are the same since the gradient that was not finite."""
        while self.held:
            seen = self.held.pop()
            if self.bound is not None and seen.gap is not None:
                check_sampler(self.stage, seen.gap, self.bound, seen.step)
            guards = [Guard(None, bad) for bad in seen.bad]
            check_guard(self.stage, guards, params, seen.batch, seen.loss, seen.step)


def _guards(state: PyTree) -> list[Guard]:
    parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, Guard))
    return [part for part in parts if isinstance(part, Guard)]


def check_guard(
    stage: Stage, state: PyTree, params: PyTree, batch: PyTree, loss: Any, step: int
) -> None:
    """Stops a run at a gradient that is not finite; does nothing if no optimizer is guarded.

    Args:
      state: of the training, with any number of `Guard`s in it, after step number `step`.
      params: that were trained. batch, loss: of this step.
    Raises:
      DivergedError: it names the first array that is not finite, of the parameters, the batch, the
        loss, the gradients, and the file with the batch.
    """
    bad = max((int(guard.bad) for guard in _guards(state)), default=-1)
    if bad < 0:
        return
    path = stage.run.out / "stages" / stage.name / f"bad_batch_{step + 1}.npz"
    arrays = {keystr(where): np.asarray(x) for where, x in tree_leaves_with_path(on_host(batch))}

    def keep() -> None:
        with naming_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, allow_pickle=False, **arrays)

    on_first(keep)
    where, _ = tree_leaves_with_path(params)[bad]
    given = {"parameters": params, "batch": batch, "loss": np.float64(as_number(loss))}
    faults = (f"{name}{found}" for name, x in given.items() if (found := first_not_finite(x)))
    first = next(faults, f"gradient of {keystr(where)} is not finite")
    raise DivergedError(
        f"{stage.name}: step {step + 1} is not finite, first the {first}; its batch is in {path}. "
        "Lower the learning rate or look at these rows, and choose another --out"
    )


def known_first_loss(loss: PairLoss, rows: Rows) -> float:
    """The mean loss of the first batch at policy = reference, from its reference log-probs alone.

    log 2 for DPO and its relatives.
    """
    batch = rows[0]
    refs = batch.ref_chosen_logps, batch.ref_rejected_logps
    return float(jnp.average(loss(*refs, *refs), weights=batch.weights))


def check_first_loss(stage: Stage, found: float, expected: float) -> None:
    """UserError unless the first loss is the expected one."""
    if not abs(found - expected) <= FIRST_LOSS_ERROR * (1 + abs(expected)):
        raise UserError(
            f"{stage.name}: the loss of the first step must be {expected:.6g}, where the policy is "
            f"the reference, got {found:.6g}: the reference log-probs are of another model, or of "
            "other rows"
        )


def check_sampler(stage: Stage, gap: Any, bound: float, step: int) -> None:
    """UserError if sampler and trainer differ by more than `bound` nats in the log-prob of a token.

    Args:
      gap: the largest difference of this rollout.
    """
    if not float(gap) <= bound:
        raise UserError(
            f"{stage.name}: sampler and trainer differ by {float(gap):.3g} nats in the log-prob of "
            f"a token at step {step + 1}, at most {bound:g} is allowed: the two do not run the "
            "same model"
        )
