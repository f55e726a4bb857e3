"""Two goals in a grid: the policy that is planned for each user on the reward of its latent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.vpl.config import Config
from experiments.vpl.learners import first_params, fit_given, fit_vpl, given, networks
from experiments.vpl.population import GROUPS, Asked, drawn, how_many, shown, sorted_pairs
from experiments.vpl.studies import keys_of, seeds, stacked
from rlhf_jax.algos.user_reward import posterior_of
from rlhf_jax.envs.hazard_grid import grid_successors, slippery_transitions
from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.exact.discounted_mdp import soft_optimal
from rlhf_jax.ops.games import score_win_rates
from rlhf_jax.types import Params


def goals(side: int) -> tuple[int, int]:
    """The two corners of the top row, as states."""
    return 0, side - 1


def cell_features(config: Config) -> Float[Array, "S d"]:
    """Row and column, in [-1, 1], and zeros: the networks are those of the items."""
    places = np.stack(np.divmod(np.arange(config.side**2), config.side), axis=-1)
    features = 2.0 * places / (config.side - 1) - 1.0
    return jnp.asarray(np.pad(features, ((0, 0), (0, config.features - 2))), jnp.float32)


def utilities(side: int) -> Float[Array, "2 S"]:
    """Minus the number of moves to the goal of each of the two users."""
    cells = np.stack(np.divmod(np.arange(side * side), side), axis=-1)
    away = [np.abs(cells - cells[goal]).sum(-1) for goal in goals(side)]
    return -jnp.asarray(np.stack(away), jnp.float32)


@partial(jax.jit, static_argnames=("users", "pairs", "config"))
def ask_about_cells(key: Key[Array, ""], users: int, pairs: int, *, config: Config) -> Asked:
    """Random users of both kinds about random pairs of cells."""
    group_key, cell_key, answer_key = jax.random.split(key, 3)
    groups = jax.random.randint(group_key, (users,), 0, 2)
    cells = jax.random.randint(cell_key, (users, pairs, 2), 0, config.side**2)
    values = utilities(config.side)[groups[:, None, None], cells]
    return sorted_pairs(answer_key, groups, cell_features(config)[cells], values)


def grid_users(config: Config) -> dict[str, np.ndarray]:
    """Of each seed: P(its own goal is reached first) by moves, with VPL and without a latent."""
    return stacked([in_a_grid(config, seed) for seed in seeds(config)])


def in_a_grid(config: Config, seed: int) -> dict[str, Array]:
    """Both rewards, from the same comparisons; the users' policies and where they lead."""
    _, people, start, noise = keys_of(config, seed)
    asked = ask_about_cells(people, **how_many(config), config=config)
    users, first = drawn(noise, asked, config), first_params(config, start)
    params, _ = fit_vpl(config, first, users, beta=jnp.asarray(config.beta))
    codes = jnp.zeros((GROUPS, config.latent_dim))
    plain = fit_given(config, first, users, codes=codes)
    test = Asked(*(x[: config.grid_users] for x in users.test))
    context = shown(test, config.context, config.context)
    latents = posterior_of(networks(config).encoder, params, context).means
    return {
        "vpl": reached(config, params.reward, latents, test.groups),
        "no latent": reached(config, plain, jnp.zeros_like(latents), test.groups),
    }


@partial(jax.jit, static_argnames="config")
def reached(
    config: Config,
    reward: Params,
    latents: Float[Array, "U k"],
    groups: Int[Array, " U"],
) -> Float[Array, "3 T"]:
    """Mean over users of P(own goal first), P(other goal first) and P(neither yet) by moves."""
    features = cell_features(config)
    cells = jnp.broadcast_to(features, (len(latents), *features.shape))
    scores = networks(config).reward.scores(reward, given(cells, latents))
    rewards = score_win_rates(scores, scores)  # over all cells: the same scale for every user
    policies = jax.vmap(partial(plan, config))(rewards)
    found = jax.vmap(partial(hits, config))(policies)  # [U, T, 2]
    own = jnp.take_along_axis(found, groups[:, None, None], axis=-1)[..., 0].mean(0)
    other = jnp.take_along_axis(found, 1 - groups[:, None, None], axis=-1)[..., 0].mean(0)
    return jnp.stack([own, other, 1.0 - own - other])


def moves(side: int) -> Float[Array, "S A S"]:
    """Up, down, left, right, without slips."""
    return slippery_transitions(grid_successors(side, side), slip=0.0)


def plan(config: Config, rewards: Float[Array, " S"]) -> Float[Array, "S A"]:
    """Log-probs of the soft optimum where being in a cell pays its reward. No cell is terminal."""
    size = len(rewards)
    mdp = DiscountedMDP(
        transitions=moves(config.side),
        rewards=jnp.broadcast_to(rewards[:, None], (size, 4)),
        initial=jnp.full(size, 1 / size),
        gamma=jnp.asarray(config.gamma),
    )
    flat = jnp.full((size, 4), -jnp.log(4.0))
    return soft_optimal(mdp, flat, beta=config.temperature).logps


def hits(config: Config, logps: Float[Array, "S A"]) -> Float[Array, "T 2"]:
    """P(each goal was entered, and before the other) after 0 .. T - 1 moves, exactly; from the
    middle of the bottom row."""
    side, size = config.side, config.side**2
    ends = jnp.zeros(size, bool).at[jnp.asarray(goals(side))].set(True)
    chain = jnp.einsum("sa,sat->st", jnp.exp(logps), moves(side))
    chain = jnp.where(ends[:, None], jnp.eye(size), chain)

    def step(at, _):
        return at @ chain, at[jnp.asarray(goals(side))]

    start = jnp.zeros(size).at[size - 1 - side // 2].set(1.0)
    return jax.lax.scan(step, start, length=config.goal_steps + 1)[1]
