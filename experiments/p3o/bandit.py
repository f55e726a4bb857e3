"""A contextual bandit, the rewards of each prompt shifted by delta(x), in float64."""

from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.p3o.config import Config
from experiments.p3o.learners import GROUPED, LEARNERS, Learner
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss, pairwise_gradient_loss
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.types import GroupLoss

ARMS = 6  # of the bandits whose gradients are enumerated


class World(NamedTuple):
    """rewards, ref_logits: [X, A]. shift: [X] of N(0, 1). prompts: [I, N] of every iteration.
    noise: [I, N, K, A] Gumbel, of the draws."""

    rewards: Array
    ref_logits: Array
    shift: Array
    prompts: Array
    noise: Array


def draw_world(config: Config, samples: int, key: Key[Array, ""]) -> World:
    """The same bandit for every number of samples; 2 X answers in each iteration."""
    reward_key, ref_key, shift_key, noise_key = jax.random.split(key, 4)
    shape, count = (config.prompts, config.answers), 2 * config.prompts // samples
    order_key, noise_key = jax.random.split(noise_key)
    order = jax.random.uniform(order_key, (config.iterations, config.prompts))
    return World(
        jax.random.normal(reward_key, shape),
        config.ref_spread * jax.random.normal(ref_key, shape),
        jax.random.normal(shift_key, shape[:1]),
        jnp.argsort(order, axis=-1)[:, :count],
        jax.random.gumbel(noise_key, (config.iterations, count, samples, config.answers)),
    )


def train(
    config: Config, learner: Learner, world: World, shift: Array, beta: Array
) -> dict[str, Array]:
    """reward and kl, exact, [I + 1]: before each iteration and at the end; logits [X, A]."""
    ref_logps = jax.nn.log_softmax(world.ref_logits)
    observed = world.rewards + shift * world.shift[:, None]

    def iteration(state, drawn):
        prompts, noise = drawn
        logits = learner.logits(state)
        actions = jnp.argmax(logits[prompts][:, None] + noise, axis=-1)
        states = jnp.broadcast_to(prompts[:, None], actions.shape)
        old = jax.nn.log_softmax(logits)[states, actions]
        paid = observed[states, actions] - beta * (old - ref_logps[states, actions])
        batch = learner.prepare(state, bandit_trajectory(states, actions), paid, old)

        def epoch(_, state):
            return learner.update(state, batch)[0]

        return jax.lax.fori_loop(0, config.epochs, epoch, state), measured(world, logits)

    start = learner.start(world.ref_logits)
    state, found = jax.lax.scan(iteration, start, (world.prompts, world.noise))
    last = measured(world, learner.logits(state))
    curves = {name: jnp.append(found[name], last[name]) for name in last}
    return curves | {"logits": learner.logits(state)}


def measured(world: World, logits: Float[Array, "X A"]) -> dict[str, Array]:
    """Mean true reward and KL of a policy, exact."""
    reward = jnp.sum(jax.nn.softmax(logits) * world.rewards, axis=-1)
    return {"reward": jnp.mean(reward), "kl": jnp.mean(exact_kl(logits, world.ref_logits))}


def bandit_study(config: Config) -> dict[str, np.ndarray]:
    """Every method in every setting.

    "<method>/reward", "<method>/kl": [N, settings, I + 1]. "<method>/shifted": [N] the largest
    change of either, or of a logit, by the first shift. "optimum": [N, settings].
    """
    shifts, betas = np.array(config.settings()).T
    with jax.enable_x64(True):
        worlds = drawn_worlds(config, 2)
        given = worlds, jnp.asarray(shifts), jnp.asarray(betas)
        found = {"optimum": np.asarray(optima(*given))}
        for name, make in LEARNERS.items():
            runs = {k: np.asarray(x) for k, x in over_all(config, make(config))(*given).items()}
            moved = [np.abs(x[:, 1] - x[:, 0]).reshape(len(x), -1).max(-1) for x in runs.values()]
            found |= {f"{name}/{k}": runs[k] for k in ("reward", "kl")}
            found[f"{name}/shifted"] = np.max(moved, axis=0)
    return found


def group_study(config: Config) -> dict[str, np.ndarray]:
    """Objective at the end with K answers to a prompt, at the shift: "<method>/<K>" [N]."""
    found = {}
    with jax.enable_x64(True):
        for samples in config.groups:
            given = drawn_worlds(config, samples), *(jnp.array([x]) for x in at_shift(config))
            for name in GROUPED:
                runs = over_all(config, LEARNERS[name](config))(*given)
                reward, kl = (np.asarray(runs[k])[:, 0, -1] for k in ("reward", "kl"))
                found[f"{name}/{samples}"] = reward - config.beta * kl
    return found


def at_shift(config: Config) -> tuple[float, float]:
    """The setting that claims are about."""
    return config.shift, config.beta


def drawn_worlds(config: Config, samples: int) -> World:
    """[N] worlds."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return jax.jit(jax.vmap(partial(draw_world, config, samples)))(keys)


def over_all(config: Config, learner: Learner):
    """`train` on worlds [N] and settings: each result [N, settings, ...]."""
    over_settings = jax.vmap(partial(train, config, learner), (None, 0, 0))
    return jax.jit(jax.vmap(over_settings, (0, None, None)))


@jax.jit
def optima(worlds: World, shifts: Array, betas: Array) -> Float[Array, "N S"]:
    """The largest E r - beta KL of each world."""

    def one(world: World, beta: Array) -> Array:
        logps = regularised_optimum(world.rewards, world.ref_logits, beta=beta)
        found = measured(world, logps)
        return found["reward"] - beta * found["kl"]

    del shifts
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(worlds, betas)


def gradient_study(config: Config) -> dict[str, np.ndarray]:
    """[bandits] largest error of the expected gradient over all pairs that old logits draw."""
    pairs = jnp.array(list(product(range(ARMS), repeat=2)))

    def error(loss: GroupLoss, rows: Array, *, on_policy: bool) -> Array:
        logits, old, rewards = rows
        old = jax.nn.log_softmax(logits if on_policy else old)
        probs = jnp.prod(jnp.exp(old)[pairs], axis=-1)

        def mean(logits: Array) -> Array:
            logps = jax.nn.log_softmax(logits)[pairs]
            return jnp.sum(probs * loss(logps, old[pairs], rewards[pairs]))

        exact = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * rewards))(logits)
        return jnp.max(jnp.abs(jax.grad(mean)(logits) + exact))

    def plain(logps: Array, old_logps: Array, scores: Array) -> Array:
        del old_logps
        return pairwise_gradient_loss(logps, scores)

    losses = {
        "pairwise gradient": (plain, True),
        "V1": (partial(p3o_v1_loss, clip_eps=jnp.inf), False),
        "V2": (partial(p3o_v2_loss, clip_eps=jnp.inf), False),
        "V1, clipped": (partial(p3o_v1_loss, clip_eps=config.clip_eps), False),
    }
    with jax.enable_x64(True):
        rows = jax.random.normal(jax.random.key(config.seed), (config.bandits, 3, ARMS))

        @jax.jit
        def all_errors(rows: Array) -> dict[str, Array]:
            return {
                name: jax.vmap(partial(error, loss, on_policy=on_policy))(rows)
                for name, (loss, on_policy) in losses.items()
            }

        return {name: np.asarray(x) for name, x in all_errors(rows).items()}
