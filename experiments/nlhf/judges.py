"""Three types of judge: the Nash policy moves with their shares, a Bradley-Terry optimum jumps."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.envs.games import three_types
from rlhf_jax.exact.nash import nash_lp
from rlhf_jax.losses.reward import bradley_terry_loss

SHARES = np.array([0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.001])
EPS = np.concatenate([-SHARES, SHARES[::-1]])


def solutions() -> dict[str, np.ndarray]:
    """For each eps: Nash policy [E, 3], the paper's formula of it [E, 3], scores [E, 3]."""
    with jax.enable_x64(True):
        prefs = three_types(jnp.asarray(EPS))
        nash_probs, _ = nash_lp(prefs)
        scores = np.asarray(jax.jit(jax.vmap(bradley_terry_scores))(prefs))
    formula = np.stack([1 / 3 + EPS / 2, 1 / 3 + EPS / 2, 1 / 3 - EPS], axis=-1)
    return {"nash": nash_probs, "formula": formula, "scores": scores}


def bradley_terry_scores(prefs: jax.Array, steps: int = 20) -> jax.Array:
    """Scores [n] of mean 0 with the least Bradley-Terry loss over all pairs, by Newton steps."""

    def loss(scores: jax.Array) -> jax.Array:
        first, second = jnp.broadcast_arrays(scores[:, None], scores[None, :])
        return jnp.sum(prefs * bradley_terry_loss(first, second))

    def step(_, scores: jax.Array) -> jax.Array:
        # A common shift of the scores changes nothing; the ones fix it.
        curvature = jax.hessian(loss)(scores) + 1.0
        return scores - jnp.linalg.solve(curvature, jax.grad(loss)(scores))

    return jax.lax.fori_loop(0, steps, step, jnp.zeros(prefs.shape[-1], prefs.dtype))
