"""PPO on a bandit, with any reward: win rate over the anchor against KL to the reference."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.pairwise_rl.config import Config
from experiments.pairwise_rl.world import (
    SOURCES,
    World,
    all_rewards,
    anchor_verdicts,
    draw_world,
    share_of_prompts,
    spread_within,
    true_wins,
)
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.losses import order_bias, ppo_clip_loss, verdict_margins
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.masking import weighted_mean, whiten
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import TrainState

RANGE, HALVINGS = 6.0, 24  # of log beta in units of the spread, and of the bisection
BASELINES = ("none", "others")  # what is subtracted before the batch is whitened


def bandit_study(config: Config) -> dict[str, np.ndarray]:
    """Win rate and KL of every source, KL weight, baseline and world; facts of the rewards."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    worlds, draws = drawn_worlds(config, keys)
    found = dict(facts(config, worlds))
    for grouped, baseline in enumerate(BASELINES):
        found |= {
            f"{name}, {baseline}": x
            for name, x in zip(("kl", "wins"), sweep(config, worlds, draws, grouped), strict=True)
        }
    return {name: np.asarray(x) for name, x in found.items()}


class Draws(NamedTuple):
    """Of all iterations: prompts [I, batch], without and with groups, and noise [I, batch, A]."""

    prompts: Array
    grouped: Array
    noise: Array


@partial(jax.jit, static_argnames="config")
def drawn_worlds(config: Config, keys: Key[Array, " N"]) -> tuple[World, Draws]:
    """Every world and its draws, at once: random bits within a loop take long to compile."""
    count, size = config.iterations, config.batch

    def one(key: Key[Array, ""]) -> tuple[World, Draws]:
        world, asked, met, said = jax.random.split(key, 4)
        prompts = jax.random.randint(asked, (count, size), 0, config.prompts)
        grouped = jax.random.randint(met, (count, size // config.group), 0, config.prompts)
        noise = jax.random.gumbel(said, (count, size, config.answers))
        draws = Draws(prompts, jnp.repeat(grouped, config.group, axis=1), noise)
        return draw_world(world, config), draws

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames="config")
def sweep(config: Config, worlds: World, draws: Draws, grouped: int) -> tuple[Array, Array]:
    """Exact KL and win rate [N, R, betas] at the end of the training."""
    multiples = jnp.asarray(config.multiples(), jnp.float32)

    def one(world: World, draws: Draws) -> tuple[Array, Array]:
        def measured(rewards: Array, multiple: Array) -> tuple[Array, Array]:
            beta = multiple * spread_within(rewards, world.ref_logits)
            return reached(world, train(config, draws, world, rewards, beta=beta, grouped=grouped))

        over_betas = jax.vmap(measured, (None, 0))
        return jax.vmap(over_betas, (0, None))(all_rewards(world), multiples)

    return jax.vmap(one)(worlds, draws)


def train(
    config: Config,
    draws: Draws,
    world: World,
    rewards: Float[Array, "X A"],
    *,
    beta: Array,
    grouped: Array | int,
) -> Float[Array, "X A"]:
    """Logits after PPO from the reference; the same prompts and noise for every reward.

    grouped: 1 for groups of answers to a prompt, with the mean of the others as a baseline; else 0.
    """
    policy, optimizer = tabular_policy(*rewards.shape), optax.adam(config.rate)
    ref_logps = jax.nn.log_softmax(world.ref_logits)
    every = jnp.ones(config.batch, bool)

    def iteration(state: TrainState, drawn: tuple[Array, Array]) -> tuple[TrainState, None]:
        states, noise = drawn
        actions = jnp.argmax(state.params[states] + noise, axis=-1)
        trajectory = bandit_trajectory(states, actions)
        old = policy.logps(state.params, trajectory.inputs, trajectory.actions)
        paid = rewards[states, actions] - beta * (old[:, 0] - ref_logps[states, actions])
        others = leave_one_out_advantages(paid.reshape(-1, config.group)).reshape(-1)
        advantages = whiten(jnp.where(grouped, others, paid), every)[:, None]

        def objective(params):
            logps = policy.logps(params, trajectory.inputs, trajectory.actions)
            losses = ppo_clip_loss(logps, old, advantages, clip_eps=config.clip_eps)
            return weighted_mean(losses, None), {}

        def epoch(state: TrainState, _: None) -> tuple[TrainState, None]:
            return gradient_step(state, objective, optimizer)[0], None

        return jax.lax.scan(epoch, state, length=config.epochs)

    prompts = jnp.where(grouped, draws.grouped, draws.prompts)
    state = init_state(world.ref_logits, optimizer)
    return jax.lax.scan(iteration, state, (prompts, draws.noise))[0].params


def reached(world: World, logits: Float[Array, "X A"]) -> tuple[Array, Array]:
    """Mean KL to the reference and mean true win rate over the anchor, exact."""
    logps = jax.nn.log_softmax(logits)
    kl = jnp.mean(exact_kl(logps, jax.nn.log_softmax(world.ref_logits)))
    return kl, jnp.mean(jnp.sum(jnp.exp(logps) * true_wins(world), axis=-1))


@partial(jax.jit, static_argnames="config")
def facts(config: Config, worlds: World) -> dict[str, Array]:
    """What is known without training, by world.

    prompt share [N, R]; reference wins [N]; exact wins [N, R] of pi_ref exp(r / beta) / Z at the
    budget, and within reach [N, R], False where every beta stays below the budget; errors [N, 3] of
    P(beats the anchor) from one order, from two averaged probabilities, from two averaged margins;
    one order right [N], how often it is right about answer and anchor.
    """

    def one(world: World) -> dict[str, Array]:
        wins, asked = true_wins(world), anchor_verdicts(world)
        margins, bias = verdict_margins(asked), order_bias(asked)
        one_order, other = jax.nn.sigmoid(margins + bias), jax.nn.sigmoid(margins - bias)
        guesses = (one_order, 0.5 * (one_order + other), jax.nn.sigmoid(margins))
        share = partial(share_of_prompts, ref_logits=world.ref_logits)
        exact = jax.vmap(partial(exact_policy, config, world))(all_rewards(world))
        kl, exact_wins = jax.vmap(partial(reached, world))(exact)
        apart = jnp.arange(config.answers) != world.anchors[:, None]
        right = (margins + bias > 0) == (margins > 0)
        return {
            "prompt share": jax.vmap(share)(all_rewards(world)),
            "reference wins": reached(world, world.ref_logits)[1],
            "exact wins": exact_wins,
            "within reach": kl > 0.99 * config.budget,
            "errors": jnp.stack([jnp.mean(jnp.abs(guess - wins)) for guess in guesses]),
            "one order right": jnp.sum(right & apart) / jnp.sum(apart),
        }

    return jax.vmap(one)(worlds)


def exact_policy(config: Config, world: World, rewards: Float[Array, "X A"]) -> Float[Array, "X A"]:
    """Log-probs of pi_ref exp(r / beta) / Z, with one beta for all prompts and mean KL `budget`."""
    spread = spread_within(rewards, world.ref_logits)

    def policy(log_multiple: Array) -> Array:
        beta = spread * jnp.exp(log_multiple)
        return regularised_optimum(rewards, world.ref_logits, beta=beta)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        far = reached(world, policy(middle))[0] > config.budget
        return jnp.where(far, middle, low), jnp.where(far, high, middle)

    ends = jnp.full((), -RANGE), jnp.full((), RANGE)
    return policy(jax.lax.fori_loop(0, HALVINGS, halve, ends)[1])


def at_budget(
    config: Config, found: Mapping[str, np.ndarray], baseline: str
) -> dict[str, np.ndarray]:
    """name of a source -> [N] win rate at the KL budget, between the two policies around it.

    Not a number where no policy of a world reaches the budget, or none stays below it.
    """
    kl, wins = found[f"kl, {baseline}"], found[f"wins, {baseline}"]
    return {
        name: np.array([_between(kl[i, j], wins[i, j], config.budget) for i in range(len(kl))])
        for j, name in enumerate(SOURCES)
    }


def exact_at_budget(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """name of a source -> [N] win rate of its exact optimum; not a number if out of reach."""
    wins = np.where(found["within reach"], found["exact wins"], np.nan)
    return {name: wins[:, i] for i, name in enumerate(SOURCES)}


def _between(kl: np.ndarray, wins: np.ndarray, budget: float) -> float:
    """Linear interpolation of one curve."""
    order = np.argsort(kl)
    return float(np.interp(budget, kl[order], wins[order], left=np.nan, right=np.nan))
