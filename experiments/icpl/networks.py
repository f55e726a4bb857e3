"""The baseline: a reward of every cell, fitted to comparisons of trajectories, from nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from experiments.icpl.config import Config
from experiments.icpl.world import draw_grid, solve_reward, trained_scores
from rlhf_jax.envs.coin_grid import HAZARD_COST, STAY, STEP_COST, CoinGrid
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.types import Scalar


def run_networks(config: Config) -> dict[str, np.ndarray]:
    """score: [N, len(pairs)] true score of the policy after the last refit. random: [N] that of the
    best policy for a N(0, 1) reward of every cell, which no pair was asked for."""
    found, random = [], []
    for seed in range(config.net_seeds):
        grid = draw_grid(config, seed)
        key = jax.random.fold_in(jax.random.key(config.seed + 1), seed)
        found.append([float(network_score(config, count, grid, key)) for count in config.pairs])
        weights = jax.random.normal(key, (grid.mdp.initial.shape[-1],))
        random.append(float(trained_scores(grid, wide(weights)[None])[0]))
    return {"score": np.asarray(found), "random": np.asarray(random)}


@partial(jax.jit, static_argnums=(0, 1))
def network_score(
    config: Config, pairs: int, grid: CoinGrid, key: Key[Array, ""]
) -> Float[Array, ""]:
    """Rounds of collecting, comparing and refitting; the score of the last policy.

    Each round compares pairs / refits fresh trajectories of the policy with random actions mixed
    in; all comparisons so far are fitted.
    """
    states = grid.mdp.initial.shape[-1]
    chunk = -(-pairs // config.refits)
    places = jnp.arange(config.refits * chunk)

    def refit(carry, now):
        weights, differences, used = carry
        round_key, n = now
        share = jnp.where(n == 0, 1.0, config.random_share)
        visits, scores = collect(grid, weights, round_key, count=2 * chunk, random_share=share)
        sign = jnp.sign(scores[:chunk] - scores[chunk:])
        fresh = sign[:, None] * (visits[:chunk] - visits[chunk:])
        start = n * chunk
        differences = jax.lax.dynamic_update_slice(differences, fresh, (start, 0))
        # Equal scores are no preference; the last round may have fewer pairs.
        used = jax.lax.dynamic_update_slice(used, sign != 0, (start,)) & (places < pairs)
        weights = fit_reward(differences, used, precision=config.precision)
        return (weights, differences, used), None

    empty = jnp.zeros((len(places), states)), jnp.zeros(len(places), bool)
    rounds = jax.random.split(key, config.refits), jnp.arange(config.refits)
    (weights, _, _), _ = jax.lax.scan(refit, (jnp.zeros(states), *empty), rounds)
    return trained_scores(grid, wide(weights)[None])[0]


def collect(
    grid: CoinGrid,
    weights: Float[Array, " S"],
    key: Key[Array, ""],
    *,
    count: int,
    random_share: Scalar,
) -> tuple[Float[Array, "N S"], Float[Array, " N"]]:
    """Visits of each cell after the first state, and the score of each trajectory.

    The policy is the best one for the fitted reward; an action is uniform with `random_share`.
    """
    horizon, states, actions, _ = grid.mdp.transitions.shape
    greedy = jnp.exp(solve_reward(grid, wide(weights)).logps)
    mixed = (1 - random_share) * greedy + random_share / actions
    # The chain of states under the mixed policy: its law is all that visits and scores depend on.
    chain = jnp.einsum("hsa,hsat->hst", mixed, grid.mdp.transitions)

    def step(cells, now):
        law, step_key = now
        cells = jax.random.categorical(step_key, jnp.log(law[cells]))
        return cells, cells

    start = jnp.zeros(count, int)
    last, path = jax.lax.scan(step, start, (chain, jax.random.split(key, horizon)))
    visits = jnp.sum(jax.nn.one_hot(path, states), axis=0)
    goal, hazard = grid.features["goal"][:, 0], grid.features["hazard"][:, 0]
    cost = HAZARD_COST * hazard + STEP_COST * (1 - goal)
    return visits, goal[last] - visits @ cost


def fit_reward(
    differences: Float[Array, "N S"], used: Bool[Array, " N"], *, precision: float | int
) -> Float[Array, " S"]:
    """argmin_w sum -log sigmoid(w . d) + precision / 2 |w|^2 over the comparisons in use."""

    def objective(weights: Float[Array, " S"]) -> Float[Array, ""]:
        margins = differences @ weights
        losses = bradley_terry_loss(margins, jnp.zeros_like(margins))
        return jnp.sum(jnp.where(used, losses, 0.0)) + precision / 2 * weights @ weights

    return newton_minimum(objective, jnp.zeros(differences.shape[-1])).params


def wide(weights: Float[Array, " S"]) -> Float[Array, "S A"]:
    """A reward of cells as one of cells and actions."""
    return jnp.broadcast_to(weights[:, None], (*weights.shape, STAY + 1))
