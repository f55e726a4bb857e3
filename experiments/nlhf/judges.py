"""Three types of judge: the Nash policy moves with their shares, a Bradley-Terry optimum jumps."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos.bradley_terry import fit_win_matrix
from rlhf_jax.envs.games import three_types
from rlhf_jax.exact.nash import nash_lp

SHARES = np.array([0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.001])
EPS = np.concatenate([-SHARES, SHARES[::-1]])


def solutions() -> dict[str, np.ndarray]:
    """For each eps: Nash policy [E, 3], the paper's formula of it [E, 3], scores [E, 3]."""
    with jax.enable_x64(True):
        prefs = three_types(jnp.asarray(EPS))
        nash_probs, _ = nash_lp(prefs)
        scores = np.asarray(jax.jit(jax.vmap(fit_win_matrix))(prefs))
    formula = np.stack([1 / 3 + EPS / 2, 1 / 3 + EPS / 2, 1 / 3 - EPS], axis=-1)
    return {"nash": nash_probs, "formula": formula, "scores": scores}
