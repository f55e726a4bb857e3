"""Pairs of segments, who labels them, and the learners of a linear reward."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.envs.gridworlds import FEATURES, MOVES, GridWorld, step_features, under_weights
from rlhf_jax.envs.random_boards import Recipe
from rlhf_jax.envs.tabular_mdp import discounted_env
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.losses.reward import partial_returns, segment_regrets, soft_bradley_terry_loss
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

MODELS = ("regret", "partial return")  # of who labels, and of who learns
LABELS = ("noiseless", "logistic")
TIE = 1e-6
SCREENING = 30  # steps from each start
KNOWN = 0.01  # standard deviation of a weight that is the same on all boards


class Segments(NamedTuple):
    """features: [*B, T, d] paid at each step; states: [*B, T + 1]; actions: [*B, T]; mask: [*B, T]
    False once the episode is over."""

    features: Float[Array, "*B T d"]
    states: Int[Array, "*B T1"]
    actions: Int[Array, "*B T"]
    mask: Bool[Array, "*B T"]


def sample_segments(key: Key[Array, ""], world: GridWorld, *, pairs: int, length: int) -> Segments:
    """Pairs [pairs, 2] of segments: a uniform start that is no end, uniform actions."""
    size = world.mdp.initial.shape[-1]
    act = policy_act(tabular_policy(size, len(MOVES)), jnp.zeros((size, len(MOVES))))
    draw = partial(sample_episode, discounted_env(world.mdp), act, steps=length)
    keys = jax.random.split(key, (pairs, 2))
    episodes = jax.vmap(jax.vmap(draw))(keys)
    states, trajectory = episodes.states, episodes.trajectory
    features = step_features(world, states[..., :-1], states[..., 1:])
    return Segments(features, states, trajectory.actions, trajectory.mask)


def summed_features(segments: Segments) -> Float[Array, "*B d"]:
    """What a partial return sees of a segment: the utility is this @ weights."""
    return jnp.sum(jnp.where(segments.mask[..., None], segments.features, 0.0), axis=-2)


def advantage_features(
    world: GridWorld, segments: Segments, logps: Float[Array, "S A"]
) -> Float[Array, "*B d"]:
    """What minus the regret sees of a segment if `logps` is the optimal policy.

    x = sum_t gamma^t [phi(s_t, a_t) + gamma E psi(s_{t+1}) - psi(s_t)], psi the successor features
    of the policy; x @ weights is the sum of A*, and x its gradient (envelope theorem).
    """
    psi = discounted_mdp.successor_features(world.mdp, logps, world.features)
    ahead = jnp.einsum("ijk,kd->ijd", world.mdp.transitions, psi)
    table = world.features + world.mdp.gamma * ahead - psi[:, None]
    times = jnp.arange(segments.mask.shape[-1])
    weights = jnp.where(segments.mask, world.mdp.gamma**times, 0.0)
    taken = table[segments.states[..., :-1], segments.actions]
    return jnp.sum(weights[..., None] * taken, axis=-2)


def utilities(
    weights: Float[Array, " d"], world: GridWorld, segments: Segments, *, model: str
) -> Float[Array, "*B"]:
    """What a model of preferences sees in each segment under these weights: minus its regret, or
    its partial return."""
    if model == "partial return":
        return partial_returns(segments.features @ weights, segments.mask)
    found = discounted_mdp.optimal(under_weights(world, weights))
    states = segments.states[..., :-1]
    values, q = found.values[states], found.action_values[states, segments.actions]
    return -segment_regrets(values, q, segments.mask, gamma=world.mdp.gamma)


def draw_prefs(key: Key[Array, ""], values: Float[Array, "B 2"], *, noisy: Array | bool) -> Array:
    """[B] preference for the first segment: a drawn label where noisy, else the better one, 1/2 at
    a tie."""
    drawn = bt_labels(key, values[:, ::-1], beta=1.0).astype(values.dtype)
    gaps = values[:, 0] - values[:, 1]
    sure = 0.5 + 0.5 * jnp.sign(jnp.where(jnp.abs(gaps) < TIE, 0.0, gaps))
    return jnp.where(noisy, drawn, sure)


def fit_weights(
    world: GridWorld,
    segments: Segments,
    prefs: Array,
    *,
    model: str,
    starts: int,
    steps: int,
    rate: float,
) -> tuple[Array, Array]:
    """Weights [d] from preferences [N], by Adam on the cross-entropy, all pairs at once.

    Args:
      starts: of the regret model, 0 and standard normal weights: the one with the least training
        loss after a few steps is followed to the end. The loss of partial returns is convex, and
        one start at 0 finds its minimum.
    Returns:
      the weights of least training loss for the regret model, the last ones for partial return; and
      that loss in nats.
    """
    optimizer = optax.adam(lambda step: rate / (1 + step / 100), b1=0.9, b2=0.99)
    fixed = summed_features(segments)

    def step(carry, _):
        state, plan, best, least = carry
        seen = fixed
        if model == "regret":
            # The plan of the step before is nearly the best one already.
            plan = discounted_mdp.optimal(under_weights(world, state.params), plan).logps
            seen = advantage_features(world, segments, plan)

        def objective(weights):
            losses = soft_bradley_terry_loss(*jnp.moveaxis(seen @ weights, -1, 0), prefs)
            return weighted_mean(losses), {}

        new, metrics = gradient_step(state, objective, optimizer)
        loss = metrics["loss"].value()
        better = (loss < least) | (model == "partial return")
        best = jnp.where(better, state.params, best)
        return (new, plan, best, jnp.where(better, loss, least)), None

    def fit(start, steps):
        uniform = jnp.full_like(world.mdp.rewards, -jnp.log(len(MOVES)))
        carry = (init_state(start, optimizer), uniform, start, jnp.full((), jnp.inf))
        return jax.lax.scan(step, carry, length=steps + 1)[0][2:]

    start = jnp.zeros(world.weights.shape[-1])
    if model == "regret":
        others = jax.random.normal(jax.random.key(0), (starts - 1, *start.shape), start.dtype)
        tried = jnp.concatenate([start[None], others])
        weights, losses = jax.vmap(partial(fit, steps=SCREENING))(tried)
        start = weights[jnp.argmin(losses)]
    return fit(start, steps)


class Prior(NamedTuple):
    """Mean and standard deviation [d] of weights, as a normal law."""

    mean: Array
    spread: Array


def board_prior() -> Prior:
    """The law that the weights of `random_board` are drawn from, up to its shape; those of gas and
    coins are known."""
    recipe = Recipe()
    drawn = [
        np.array(choices)
        for choices in (
            (-1.0,),
            recipe.goal_weights,
            recipe.sheep_weights,
            (1.0,),
            recipe.roadblock_weights,
            recipe.brick_weights,
        )
    ]
    spread = [max(each.std(), KNOWN) for each in drawn]
    return Prior(jnp.array([each.mean() for each in drawn]), jnp.array(spread))


def flat_prior() -> Prior:
    """Weights of about 1, of any sign: a ridge."""
    return Prior(jnp.zeros(len(FEATURES)), jnp.ones(len(FEATURES)))


def fit_with_prior(segments: Segments, prefs: Array, prior: Prior, strength: Array) -> Array:
    """Weights [d] of the largest posterior density if labels come from partial returns.

    sum_i CE_i + strength / 2 sum_j ((w_j - mean_j) / spread_j)^2, by Newton's method.
    """
    seen = summed_features(segments)

    def objective(weights):
        losses = soft_bradley_terry_loss(*jnp.moveaxis(seen @ weights, -1, 0), prefs)
        away = (weights - prior.mean) / prior.spread
        return jnp.sum(losses) + strength / 2 * jnp.sum(away**2)

    return newton_minimum(objective, prior.mean).params


def planned_return(world: GridWorld, weights: Float[Array, " d"]) -> Float[Array, ""]:
    """True return of the best policy for `weights`, uniform over its best actions."""
    planned = discounted_mdp.optimal(under_weights(world, weights))
    return discounted_mdp.policy_return(world.mdp, planned.logps)


def uniform_return(world: GridWorld) -> Float[Array, ""]:
    """True return of uniform actions."""
    return discounted_mdp.policy_return(
        world.mdp, jnp.full(world.mdp.rewards.shape, -jnp.log(len(MOVES)))
    )


def planned_solution(world: GridWorld, weights: Float[Array, " d"]) -> tuple[Array, Array]:
    """Values [S] and policy [S, A] of the best plan for `weights`, under these same weights."""
    found = discounted_mdp.optimal(under_weights(world, weights))
    return found.values, jnp.exp(found.logps)
