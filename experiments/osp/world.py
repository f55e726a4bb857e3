"""Tables of answers, judges of two of them, and policies that learn from their own samples."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.osp.config import Config
from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum, total_variation
from rlhf_jax.losses.preference import soft_preference_loss
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.pairings import ranked_pairing, tempered_prefs
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PairLoss, PreferenceBatch, Scalar

MEASURES = ("reward", "KL", "J", "distance")
SOFT, HARD, SMOOTH = "soft", "hard", "smooth"
LABELS = (SOFT, HARD, SMOOTH)
JUDGES = ("calibrated", "imperfect", "unknowing", "spurious")


class Row(NamedTuple):
    """A run: its labels and its judge, whether the judge is tempered, beta is over the temperature,
    and the step is times its square, as the slope in a log-ratio is in beta^2."""

    labels: str
    judge: str
    tempered: bool = False
    smaller_beta: bool = False
    longer_steps: bool = False


ROWS: dict[str, Row] = {
    **{f"{labels}, {judge}": Row(labels, judge) for judge in JUDGES[:2] for labels in LABELS},
    "soft, unknowing": Row(SOFT, "unknowing"),
    "soft, tempered, beta / tau": Row(SOFT, "calibrated", True, True),
    "soft, tempered, beta / tau, steps tau^2": Row(SOFT, "calibrated", True, True, True),
    "soft, tempered": Row(SOFT, "calibrated", True),
    **{f"{labels}, spurious": Row(labels, "spurious") for labels in LABELS},
}


class World(NamedTuple):
    """rewards, ref_logits: [S, A]. gaps: [judges, S, A, A], what each judge thinks is r_a - r_b."""

    rewards: jax.Array
    ref_logits: jax.Array
    gaps: jax.Array


def make_world(key: jax.Array, config: Config) -> World:
    """Normal rewards and logits; a fixed antisymmetric error; a judge of other rewards, and one
    that overrates the `rare` answers that the reference draws least."""
    keys = jax.random.split(key, 4)
    shape = (config.prompts, config.answers)
    rewards, ref_logits, others = (jax.random.normal(each, shape) for each in keys[:3])
    error = config.noise * jax.random.normal(keys[3], (*shape, config.answers))
    upper = jnp.triu(error, 1)
    gaps = rewards[..., :, None] - rewards[..., None, :]
    unknowing = others[..., :, None] - others[..., None, :]
    imperfect = gaps + upper - jnp.swapaxes(upper, -1, -2)
    rarest = jnp.argsort(jnp.argsort(ref_logits, axis=-1), axis=-1) < config.rare
    bonus = config.overrated * rarest
    spurious = gaps + bonus[..., :, None] - bonus[..., None, :]
    return World(rewards, ref_logits, jnp.stack([gaps, imperfect, unknowing, spurious]))


def train_all(config: Config) -> dict[str, np.ndarray]:
    """Row -> [num_seeds, points + 1, measures], and "optimum" -> [num_seeds, measures]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    worlds = jax.vmap(partial(make_world, config=config))(keys)
    rows = list(ROWS.values())
    tau = config.temperature
    settings = (
        jnp.array([LABELS.index(row.labels) for row in rows]),
        jnp.array([JUDGES.index(row.judge) for row in rows]),
        jnp.array([tau if row.tempered else 1.0 for row in rows]),
        jnp.array([config.beta / tau if row.smaller_beta else config.beta for row in rows]),
        jnp.array([tau**2 if row.longer_steps else 1.0 for row in rows]),
    )
    run = jax.vmap(partial(train, config), in_axes=(None, 0, 0))
    found = np.asarray(jax.jit(jax.vmap(run, in_axes=(0, None, None)))(settings, worlds, keys))
    best = jax.vmap(lambda world: measure(config, world, optimum(config, world)))(worlds)
    return {**dict(zip(ROWS, found, strict=True)), "optimum": np.asarray(best)}


def optimum(config: Config, world: World) -> jax.Array:
    """log of pi_ref exp(r / beta) / Z."""
    return regularised_optimum(world.rewards, world.ref_logits, beta=config.beta)


def train(config: Config, setting: tuple, world: World, key: jax.Array) -> jax.Array:
    """[points + 1, measures] of one run."""
    labels, judge, temperature, beta, gain = setting
    policy = tabular_policy(config.prompts, config.answers)
    late = {int(config.late * config.updates): config.late_rate / config.rate}
    schedule = optax.piecewise_constant_schedule(config.rate, late)
    optimizer = optax.sgd(schedule)
    # The mean over all pairs times their number of prompts: a step per prompt.
    loss = partial(_scaled, partial(soft_preference_loss, beta=beta), gain * config.prompts)
    update = preference.make_update(policy, optimizer, loss)
    ref_logps = jax.nn.log_softmax(world.ref_logits)
    gaps = jnp.take(world.gaps, judge, axis=0)

    def step(state, each):
        batch = draw_pairs(config, each, state.params, gaps, ref_logps, labels, temperature)
        return update(state, batch)[0], None

    def part(state, keys):
        state, _ = jax.lax.scan(step, state, keys)
        return state, measure(config, world, jax.nn.log_softmax(state.params))

    state = init_state(world.ref_logits, optimizer)
    keys = jax.random.split(jax.random.fold_in(key, 1), config.updates)
    _, curve = jax.lax.scan(part, state, keys.reshape(config.points, -1))
    return jnp.concatenate([measure(config, world, ref_logps)[None], curve])


def _scaled(loss: PairLoss, scale: Scalar, *logps: jax.Array, **columns: jax.Array) -> jax.Array:
    return scale * loss(*logps, **columns)


def draw_pairs(
    config: Config,
    key: jax.Array,
    logits: jax.Array,
    gaps: jax.Array,
    ref_logps: jax.Array,
    labels: jax.Array,
    temperature: jax.Array,
) -> PreferenceBatch:
    """Pairs by rank of the policy's own answers, [S, samples / 2]."""
    states = jnp.arange(config.prompts)[:, None]
    shape = (config.samples, config.prompts)
    actions = jax.random.categorical(key, logits, shape=shape).T
    prefs = jax.nn.sigmoid(gaps[states[..., None], actions[:, :, None], actions[:, None, :]])
    pairs = ranked_pairing(prefs)
    soft = tempered_prefs(pairs.prefs, temperature=temperature)
    hard = 0.5 + 0.5 * jnp.sign(soft - 0.5)
    smooth = hard + config.smoothing * (1.0 - 2.0 * hard)
    first, second = (jnp.take_along_axis(actions, x, axis=1) for x in pairs[:2])
    at = jnp.broadcast_to(states, first.shape)
    return PreferenceBatch(
        chosen=bandit_trajectory(at, first),
        rejected=bandit_trajectory(at, second),
        ref_chosen_logps=ref_logps[at, first],
        ref_rejected_logps=ref_logps[at, second],
        columns={"prefs": jnp.stack([soft, hard, smooth])[labels]},
    )


def measure(config: Config, world: World, logps: jax.Array) -> jax.Array:
    """Means over prompts of reward, KL to the reference, J, and distance to the optimum."""
    reward = jnp.mean(jnp.sum(jnp.exp(logps) * world.rewards, axis=-1))
    kl = jnp.mean(exact_kl(logps, world.ref_logits))
    far = jnp.mean(total_variation(logps, optimum(config, world)))
    return jnp.stack([reward, kl, reward - config.beta * kl, far])
