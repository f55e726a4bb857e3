"""What is compared: losses of ranked lists, over n - 1, with and without the supervised term."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos import ranking
from rlhf_jax.losses.preference import pro_loss, rrhf_loss, sft_loss
from rlhf_jax.losses.reward import plackett_luce_loss
from rlhf_jax.types import Policy, RankingLoss, Scalar, TrainState, Update


class Method(NamedTuple):
    """A loss of lists, what it reads, whether it has the supervised term and a true ranking."""

    loss: RankingLoss
    reads: tuple[str, ...] = ()
    supervised: bool = True
    shuffled: bool = False


class Setting(NamedTuple):
    """What may differ between runs of one program.

    length: n, candidates of a list that count, an integer. supervised, shuffled: 0 or 1.
    """

    length: Scalar
    supervised: Scalar
    shuffled: Scalar


def imitation(mean_logps: Float[Array, "*B K"], *, mask: Array) -> Float[Array, "*B"]:
    """The likelihood of the best answer alone."""
    return sft_loss(mean_logps[..., 0])


PRO, PLAIN, SFT, RRHF, SHUFFLED = "PRO", "no temperatures", "SFT", "RRHF", "shuffled"
ALONE = ", no SFT term"
METHODS: dict[str, Method] = {
    PRO: Method(pro_loss, ("scores",)),
    PLAIN: Method(plackett_luce_loss),
    SFT: Method(imitation, supervised=False),
    RRHF: Method(rrhf_loss, ("scores",), supervised=False),
    SHUFFLED: Method(plackett_luce_loss, shuffled=True),
    PRO + ALONE: Method(pro_loss, ("scores",), supervised=False),
    PLAIN + ALONE: Method(plackett_luce_loss, supervised=False),
}
Fit = Callable[[Method, Setting], Callable[..., jax.Array]]


def fit_all(
    names: tuple[str, ...], lengths: tuple[int, ...], fit: Fit, data: object
) -> Iterator[tuple[str, np.ndarray]]:
    """(method, [num_seeds, lengths, measures]); methods of one loss are one program.

    Args:
      fit: `(method, setting) -> (data of one seed -> measures)`. data: of all seeds.
    """
    for loss in dict.fromkeys(METHODS[name].loss for name in names):
        same = [name for name in names if METHODS[name].loss is loss]
        rows = [(n, METHODS[name]) for name in same for n in lengths]
        settings = Setting(
            jnp.array([n for n, _ in rows]),
            *(jnp.array([float(m[k]) for _, m in rows]) for k in (2, 3)),
        )

        def one(setting: Setting, given: object, method: Method = METHODS[same[0]]) -> jax.Array:
            return fit(method, setting)(given)

        over_seeds = jax.vmap(one, in_axes=(None, 0))
        found = np.asarray(jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(settings, data))
        parts = found.reshape(len(same), len(lengths), *found.shape[1:])
        yield from zip(same, np.swapaxes(parts, 1, 2), strict=True)


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    method: Method,
    setting: Setting,
    *,
    sft_weight: float,
) -> Update[TrainState, ranking.RankingBatch]:
    """The update on the method's loss over n - 1: the same step size for every n."""
    scale = 1.0 / (setting.length - 1)
    weight = sft_weight * scale * setting.supervised
    loss = partial(_scaled, method.loss, scale)
    return ranking.make_update(policy, optimizer, loss, reads=method.reads, sft_weight=weight)


def _scaled(loss: RankingLoss, scale: Scalar, logps: Array, /, **columns: Array) -> Array:
    return scale * loss(logps, **columns)
