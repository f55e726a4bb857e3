"""Grids, and what a policy is worth that was trained on a reward: exact, in float64."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.icpl.config import Config
from rlhf_jax.envs.coin_grid import CoinGrid, coin_grid, next_state_rewards
from rlhf_jax.exact.finite_mdp import Solution, optimal, policy_return
from rlhf_jax.rewards.programs import Grammar, RewardProgram, program_values

VARIABLES = ("dist", "goal", "hazard", "coin", "near_hazard", "energy")
GRAMMAR = Grammar(VARIABLES, (*VARIABLES, "exp(-dist / 0.2)"))

Score = Callable[[Sequence[RewardProgram]], np.ndarray]  # [K] true scores


def draw_grid(config: Config, seed: int) -> CoinGrid:
    """The grid of a seed."""
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    return coin_grid(
        key,
        size=config.size,
        hazards=config.hazards,
        coins=config.coins,
        slip=config.slip,
        horizon=config.horizon,
    )


def solve_reward(grid: CoinGrid, values: Float[Array, "S A"]) -> Solution:
    """The best policy for a reward of the next state and the action."""
    return optimal(replace(grid.mdp, rewards=next_state_rewards(grid, values)))


@jax.jit
def trained_scores(grid: CoinGrid, values: Float[Array, "K S A"]) -> Float[Array, " K"]:
    """The task's score of the best policy for each of K rewards."""

    def one(reward: Float[Array, "S A"]) -> Float[Array, ""]:
        return policy_return(grid.mdp, solve_reward(grid, reward).logps)

    return jax.lax.map(one, values)


@jax.jit
def best_score(grid: CoinGrid) -> Float[Array, ""]:
    """The score of the policy that knows the score."""
    return policy_return(grid.mdp, optimal(grid.mdp).logps)


def scores_of(grid: CoinGrid, programs: Sequence[RewardProgram]) -> np.ndarray:
    """[K] true scores of the policies that K programs make."""
    values = [program_values(program, grid.features).rewards for program in programs]
    return np.asarray(trained_scores(grid, jnp.stack(values)))


def scorer(grid: CoinGrid) -> Score:
    """`scores_of` one grid."""
    return partial(scores_of, grid)
