"""Grids, experts, teachers, and what can be computed about them without drawing anything."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rlif.config import Config
from rlhf_jax.envs.hazard_grid import hazard_grid
from rlhf_jax.envs.tabular_mdp import DiscountedMDP, absorbing_states
from rlhf_jax.exact.discounted_mdp import evaluate, optimal
from rlhf_jax.feedback.interventions import (
    intervention_probs,
    rejected_by_margin,
    rejected_by_share,
)
from rlhf_jax.types import Env, TimeStep

TEACHERS = ("optimal Q", "expert's Q", "at random")
GRIDS = 8  # that are learned on at a time
REACHABLE = 1e-9  # a smaller V* is that of a cell closed in by hazards


class Setting(NamedTuple):
    """mdp; best, expert: [S] actions; best_values, expert_values: [S, A] Q* and Q of the expert."""

    mdp: DiscountedMDP
    best: jax.Array
    expert: jax.Array
    best_values: jax.Array
    expert_values: jax.Array


def draw_settings(config: Config) -> Setting:
    """Leading axes [bads, seeds]. A seed's grid is the same for every share of bad states, and its
    bad states grow with the share."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return _draw_all(keys, jnp.asarray(config.bads))


@jax.jit
def _draw_all(keys: jax.Array, bads: jax.Array) -> Setting:
    return jax.vmap(jax.vmap(_draw, (0, None)), (None, 0))(keys, bads)


def _draw(key: jax.Array, bad: jax.Array) -> Setting:
    grid_key, where_key, action_key = jax.random.split(key, 3)
    mdp = hazard_grid(grid_key)
    best_values = optimal(mdp).action_values
    best = jnp.argmax(best_values, axis=-1)
    astray = jax.random.uniform(where_key, best.shape) < bad
    other = jax.random.randint(action_key, best.shape, 0, mdp.rewards.shape[-1])
    expert = jnp.where(astray, other, best)
    expert_values = evaluate(mdp, sure_policy(expert)).action_values
    return Setting(mdp, best, expert, best_values, expert_values)


def sure_policy(actions: jax.Array, num_actions: int = 4) -> jax.Array:
    """Log-probs [*B, S, A] of one action per state."""
    return jnp.log(jax.nn.one_hot(actions, num_actions, dtype=float))


def drawing_env(mdp: DiscountedMDP) -> Env:
    """`discounted_env` with another way to draw: one uniform number and cumulative sums in place of
    a Gumbel number for each state. No rewards: no learner may see them."""
    ends = absorbing_states(mdp)
    # What is drawn needs no 53 bits.
    first, after = (
        jnp.cumsum(probs.astype(jnp.float32), axis=-1) for probs in (mdp.initial, mdp.transitions)
    )

    def draw(key, sums):
        # A share of the last sum, which rounding may leave below 1.
        place = jax.random.uniform(key, dtype=jnp.float32) * sums[-1]
        return jnp.sum(sums <= place)

    def reset(key):
        state = draw(key, first)
        return state, state

    def step(key, state, action):
        new = draw(key, after[state, action])
        return new, TimeStep(new, jnp.zeros(()), jnp.where(ends[new], 0.0, 1.0))

    return Env(reset, step)


def cell_features(mdp: DiscountedMDP) -> jax.Array:
    """[S, 15] what a clone that generalises sees of a cell: the chance that each move ends in a
    hazard, at the goal, or where it was; the row, the column, and 1."""
    states = jnp.arange(mdp.transitions.shape[0])
    side = round(len(states) ** 0.5)
    goal = states == len(states) - 1
    hazards = absorbing_states(mdp) & ~goal
    stays = jnp.moveaxis(jnp.diagonal(mdp.transitions, axis1=0, axis2=2), -1, 0)
    ends = [mdp.transitions @ kind.astype(float) for kind in (hazards, goal)]
    places = jnp.stack([states // side, states % side, jnp.full_like(states, side - 1)], axis=1)
    return jnp.concatenate([*ends, stays, places / (side - 1)], axis=1)


def teachers(config: Config, setting: Setting) -> jax.Array:
    """Probabilities of an intervention [3, S, A], in the order of TEACHERS."""
    judged = [
        rejected_by_share(setting.best_values, setting.best, share=config.share),
        rejected_by_share(setting.expert_values, setting.expert, share=config.share),
    ]
    probs = [intervention_probs(each, rate=config.rate) for each in judged]
    return jnp.stack([*probs, jnp.full_like(probs[0], config.random_rate)])


def score(mdp: DiscountedMDP, best_values: jax.Array, logps: jax.Array) -> jax.Array:
    """Mean over live states of V^pi / V*, []; cells closed in by hazards are left out."""
    best = jnp.max(best_values, axis=-1)
    counted = ~absorbing_states(mdp) & (best > REACHABLE)
    ratios = evaluate(mdp, logps).values / jnp.where(counted, best, 1.0)
    return jnp.sum(jnp.where(counted, ratios, 0.0)) / jnp.sum(counted)


def planned(mdp: DiscountedMDP, probs: jax.Array) -> jax.Array:
    """Log-probs of the policy with the fewest discounted interventions, by exact planning.

    Reward -P(intervention | s, a), the learner's own actions carried out.
    """
    penalties = jnp.where(absorbing_states(mdp)[:, None], 0.0, -probs)
    return optimal(DiscountedMDP(mdp.transitions, penalties, mdp.initial, mdp.gamma)).logps


def worst_accepted(mdp: DiscountedMDP, rejected: jax.Array) -> jax.Array:
    """Log-probs of the worst policy that is never interrupted, at true rewards.

    With a teacher who never errs all such policies tie at no interventions. The worst one is the
    optimum of minus the reward, with each rejected action replaced by an accepted one.
    """
    accepted = jnp.argmax(~rejected, axis=-1)
    actions = jnp.arange(rejected.shape[-1])
    stand_in = jnp.where(rejected, accepted[:, None], actions)
    states = jnp.arange(rejected.shape[0])[:, None]
    moves, rewards = mdp.transitions[states, stand_in], mdp.rewards[states, stand_in]
    chosen = optimal(DiscountedMDP(moves, -rewards, mdp.initial, mdp.gamma)).logps
    action = jnp.argmax(chosen, axis=-1)
    return sure_policy(jnp.take_along_axis(stand_in, action[:, None], axis=-1)[:, 0])


def exact_scores(config: Config) -> dict[str, np.ndarray]:
    """What no sampling is needed for.

    Returns:
      "expert", "uniform" [bads, seeds] scores; "planned" [bads, seeds, 3] of exact planning for
      each teacher; "worst" [bads, seeds, 2, margins] of the worst policy that a teacher without
      errors and with an absolute margin never interrupts; "slack" likewise, the least over states
      of V^worst - (V^ref - margin / (1 - gamma)).
    """

    def one(setting: Setting) -> dict[str, jax.Array]:
        mdp, best_values = setting.mdp, setting.best_values
        grade = partial(score, mdp, best_values)
        judged = jnp.stack([best_values, setting.expert_values])
        compared = jnp.stack([setting.best, setting.expert])
        each = jax.vmap(jax.vmap(partial(guarantee, mdp), (None, None, 0)), (0, 0, None))
        worst, slack = each(judged, compared, jnp.asarray(config.margins))
        probs = teachers(config, setting)
        return {
            "expert": grade(sure_policy(setting.expert)),
            "uniform": grade(jnp.full_like(best_values, -jnp.log(4.0))),
            "planned": jax.vmap(grade)(jax.vmap(partial(planned, mdp))(probs)),
            "worst": jax.vmap(jax.vmap(grade))(worst),
            "slack": slack,
        }

    with jax.enable_x64(True):
        settings = draw_settings(config)
        found = jax.jit(jax.vmap(jax.vmap(one)))(settings)
        return jax.tree.map(np.asarray, found)


def guarantee(
    mdp: DiscountedMDP, action_values: jax.Array, actions: jax.Array, margin: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-probs of the worst policy that is never interrupted, and its slack above the bound."""
    rejected = rejected_by_margin(action_values, actions, margin=margin)
    logps = worst_accepted(mdp, rejected)
    reference = jnp.take_along_axis(action_values, actions[:, None], axis=-1)[:, 0]
    bound = reference - margin / (1 - mdp.gamma)
    return logps, jnp.min(evaluate(mdp, logps).values - bound)
