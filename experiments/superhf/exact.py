"""Closed forms: fixed points by beta, the mass of a rare best answer, a filter that is frozen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.superhf.config import Config
from experiments.superhf.learners import repeat
from experiments.superhf.worlds import draw_world, measure, world_keys
from rlhf_jax.algos.best_of import make_prior_update
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch
from rlhf_jax.envs.bandit import all_actions, bandit_trajectory
from rlhf_jax.exact.best_of import best_of_law, prior_fixed_point, prior_mixture, top_mass
from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.ops.statistics import choice_calibration_error
from rlhf_jax.policies.tabular import tabular_policy

RARE = 1e-3
BEST = "forecast of the best"
GRID = ((4, 1.0), (4, 2.5), (4, 3.5), (4, 6.0), (16, 0.35))  # (B, beta)
Arrays = dict[str, np.ndarray]


def run_fixed_points(config: Config) -> Arrays:
    """measure -> [seeds, betas] at the online fixed point; BEST is the calibration error as a
    forecast of the answer with the highest proxy."""

    def one(key: jax.Array) -> dict[str, jax.Array]:
        world = draw_world(config, key, hack=config.hack)

        def point(beta: jax.Array) -> dict[str, jax.Array]:
            probs = prior_fixed_point(
                jnp.exp(world.ref_logps),
                world.proxy,
                n=config.samples,
                beta=beta,
                steps=config.exact_steps,
            )
            best = jax.nn.one_hot(world.proxy.argmax(-1), config.answers)
            error, _ = choice_calibration_error(probs, best)
            return {**measure(world, jnp.log(probs)), BEST: error}

        return jax.vmap(point)(jnp.asarray(config.betas))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(world_keys(config, 0)[0]))


def run_masses(config: Config) -> Arrays:
    """[seeds, grid] mass of the best answer at the fixed point, "found"; [grid] its "root", and
    that of one draw less, "other"."""

    def one(key: jax.Array) -> jax.Array:
        world = draw_world(config, key, hack=RARE)
        found = [
            prior_fixed_point(
                jnp.exp(world.ref_logps[:1]), world.proxy[:1], n=n, beta=beta, steps=1000
            )[0, 0]
            for n, beta in GRID
        ]
        return jnp.stack(found)

    rare = jnp.asarray(RARE)
    roots = [[top_mass(rare, n=n - less, beta=beta) for n, beta in GRID] for less in (0, 1)]
    found = jax.jit(jax.vmap(one))(world_keys(config, 0)[0])
    root, other = (np.asarray(each) for each in roots)
    return {"found": np.asarray(found), "root": root, "other": other}


def run_frozen(config: Config) -> Arrays:
    """[seeds] largest difference of a probability to the closed form, where every answer is weighed
    by its chance to be selected from pi_0: "loss" by Adam on the loss, "no prior" if the closed
    form leaves the prior out."""
    states, actions = all_actions(config.prompts, config.answers)
    answers = bandit_trajectory(states, actions)
    policy = tabular_policy(config.prompts, config.answers)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, config.solve_steps))
    loss = partial(superhf_loss, beta=config.beta)
    update = make_prior_update(policy, optimizer, loss)

    def one(key: jax.Array) -> dict[str, jax.Array]:
        world = draw_world(config, key, hack=config.hack)
        ref = jnp.exp(world.ref_logps)
        law = best_of_law(ref, world.proxy, n=config.samples)
        ref_logits = policy.logits(world.ref_logps, answers.inputs)
        batch = AnswerBatch(answers, {"ref_logits": ref_logits}, law)
        state = init_state(world.ref_logps, optimizer)
        state = repeat(update, state, batch, config.solve_steps)
        probs = jax.nn.softmax(state.params)
        wanted = {"loss": prior_mixture(law, ref, beta=config.beta), "no prior": law}
        return {name: jnp.max(jnp.abs(probs - each)) for name, each in wanted.items()}

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(world_keys(config, 0)[0]))
