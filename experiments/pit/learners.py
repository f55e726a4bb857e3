"""Improvers in closed form, as a trained table and as a small model; rivals that draw again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.pit.config import Config
from experiments.pit.world import World, editor_logps, features, gap_matrix
from rlhf_jax.exact.bandit import ranked_law, regularised_optimum, total_variation
from rlhf_jax.losses.policy_gradient import ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.statistics import wins

# (logits, key of the drawn answers, logits that drew them) -> a number to minimise
TableObjective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
POINTS = 10  # of a curve
EDITOR, PIT, RANDOM, AGAIN = "SFT editor", "PIT", "PIT, labels at random", "best of k + 1"
REVERSED = "PIT, labels reversed"


def run_closed(config: Config, worlds: World) -> dict[str, Any]:
    """Name -> E q after each round [seeds, rounds + 1], and other measures [seeds, ...]."""
    return jax.jit(jax.vmap(partial(closed_world, config)))(worlds)


def kernels(config: Config, world: World) -> dict[str, jax.Array]:
    """Name -> log-probs [reference, answer] of an improver."""
    editor = editor_logps(config)
    gaps = gap_matrix(config, world.u, world.v)
    found = {
        EDITOR: editor,
        PIT: regularised_optimum(gaps, editor, beta=config.beta),
        RANDOM: regularised_optimum(
            gap_matrix(config, *world.random.reshape(2, -1)), editor, beta=config.beta
        ),
        # Reversed labels change the sign of the fit.
        REVERSED: regularised_optimum(-gaps, editor, beta=config.beta),
    }
    others = {f"{PIT}, beta {b:g}": regularised_optimum(gaps, editor, beta=b) for b in config.betas}
    return found | others


def closed_world(config: Config, world: World) -> dict[str, jax.Array]:
    """Rounds of every improver from the answers of the base policy."""
    start, scores = jnp.exp(world.base_logps), features(config.bits) @ world.reward
    found = {}
    for name, logps in kernels(config, world).items():
        table = jnp.exp(logps)
        laws = [start]
        for _ in range(config.rounds):
            laws.append(laws[-1] @ table)
        found[name] = jnp.stack([law @ world.quality for law in laws])
        better = beaten(world.quality)
        found[f"win rate: {name}"] = start @ jnp.sum(table * better, axis=-1)
        found[f"copied: {name}"] = start @ jnp.diagonal(table)
    best = [best_of(start, scores, k + 1) for k in range(config.rounds + 1)]
    found[AGAIN] = jnp.stack([law @ world.quality for law in best])
    found[f"win rate: {AGAIN}"] = best_of_two_wins(start, scores, world.quality)
    plain = jnp.exp(regularised_optimum(scores, world.base_logps, beta=config.beta))
    found["RLHF"] = plain @ world.quality
    found["highest"] = world.quality.max()
    ahead = jnp.sign(gap_matrix(config, world.u, world.v))
    truth = jnp.sign(world.quality[None] - world.quality[:, None])
    found["sign accuracy"] = jnp.sum((ahead == truth) * (truth != 0)) / jnp.sum(truth != 0)
    found["u minus v"] = jnp.abs(world.u - world.v).max()
    found["five minus four"] = jnp.abs(world.five[: world.u.size] - world.u).max()
    return found


def beaten(quality: jax.Array) -> jax.Array:
    """[first, second] 1 where the second answer is better, 1/2 at a tie, else 0."""
    return wins(*jnp.broadcast_arrays(quality[None], quality[:, None]))


def best_of(probs: jax.Array, scores: jax.Array, samples: int) -> jax.Array:
    """Law of the best of so many answers by the reward model."""
    return ranked_law(probs, scores, jnp.zeros(samples).at[0].set(1.0))


def best_of_two_wins(probs: jax.Array, scores: jax.Array, quality: jax.Array) -> jax.Array:
    """How often the better of y_0 and a new answer, by the reward model, is better than y_0."""
    taken = scores[None] > scores[:, None]  # [y_0, new]
    better = jnp.where(taken, beaten(quality), 0.5)
    return probs @ (better @ probs)


# ---- The same optimum by training a table.


def run_trained(config: Config, worlds: World) -> dict[str, Any]:
    """Version -> [seeds, POINTS + 1, 2] by `distance_and_quality`, and that of its optimum."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
    return jax.jit(jax.vmap(partial(trained_world, config)))(worlds, keys)


def trained_world(config: Config, world: World, key: jax.Array) -> dict[str, jax.Array]:
    """Policy gradients of g - beta log-ratio from the SFT editor, exact and on drawn answers."""
    sizes = config.trained
    ref_key, key = jax.random.split(key)
    drawn = jax.random.categorical(ref_key, world.base_logps, shape=(sizes.references,))
    every = jnp.arange(len(world.quality))
    weights = {"exact": jnp.exp(world.base_logps), "sampled": jnp.full(len(drawn), 1 / len(drawn))}
    found = {}
    for name, refs in (("exact", every), ("sampled", drawn)):
        editor = editor_logps(config)[refs]
        gaps = gap_matrix(config, world.u, world.v)[refs]
        optimum = regularised_optimum(gaps, editor, beta=config.beta)
        measure = partial(distance_and_quality, world.quality, optimum, weights[name])
        if name == "exact":
            objective = partial(every_answer, config, editor, gaps)
            lengths = (sizes.steps, sizes.rate)
        else:
            objective = partial(drawn_answers, config, editor, gaps)
            lengths = (sizes.batches, sizes.sampled_rate)
        passes = 1 if name == "exact" else 2
        found[name] = train(editor, measure, key, objective, *lengths, passes=passes)
        found[f"optimum, {name}"] = measure(optimum)
    return found


def distance_and_quality(
    quality: jax.Array, optimum: jax.Array, weights: jax.Array, logits: jax.Array
) -> jax.Array:
    """Total variation to the optimum and E q after a round, means over references."""
    logps = jax.nn.log_softmax(logits)
    far = weights @ total_variation(logps, optimum)
    return jnp.stack([far, weights @ jnp.exp(logps) @ quality])


def paid(config: Config, editor: jax.Array, gaps: jax.Array, logps: jax.Array) -> jax.Array:
    """Gaps minus beta times the log-ratio to the editor, no gradient."""
    return gaps - config.beta * (jax.lax.stop_gradient(logps) - editor)


def every_answer(
    config: Config,
    editor: jax.Array,
    gaps: jax.Array,
    logits: jax.Array,
    key: jax.Array,
    old: jax.Array,
) -> jax.Array:
    """REINFORCE on all answers to all references, weighted by the policy."""
    logps = jax.nn.log_softmax(logits)
    probs = jnp.exp(jax.lax.stop_gradient(logps))
    rewards = paid(config, editor, gaps, logps)
    baselines = jnp.sum(probs * rewards, axis=-1, keepdims=True)
    return jnp.sum(probs * reinforce_loss(logps, rewards - baselines))


def drawn_answers(
    config: Config,
    editor: jax.Array,
    gaps: jax.Array,
    logits: jax.Array,
    key: jax.Array,
    old: jax.Array,
) -> jax.Array:
    """PPO on K answers to each reference, with leave-one-out advantages."""
    before = jax.nn.log_softmax(old)
    actions = jax.random.categorical(key, old, shape=(config.trained.samples, len(old))).T
    at = partial(jnp.take_along_axis, indices=actions, axis=-1)
    advantages = leave_one_out_advantages(at(paid(config, editor, gaps, before)))
    logps = at(jax.nn.log_softmax(logits))
    clip_eps = config.trained.clip_eps
    losses = ppo_clip_loss(logps, at(before), advantages, clip_eps=clip_eps)
    return jnp.sum(jnp.mean(losses, axis=-1))


def train(
    logits: jax.Array,
    measure: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    objective: TableObjective,
    steps: int,
    rate: float,
    *,
    passes: int,
) -> jax.Array:
    """`measure` at the start and after each of POINTS parts of the steps of Adam."""
    per_point = max(steps // POINTS, 1)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, POINTS * per_point * passes))

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        now, state = carry
        old = now
        for _ in range(passes):
            change, state = optimizer.update(jax.grad(objective)(now, key, old), state)
            now += change
        return (now, state), None

    def part(carry: Any, keys: jax.Array) -> tuple[Any, jax.Array]:
        carry, _ = jax.lax.scan(step, carry, keys)
        return carry, measure(carry[0])

    keys = jax.random.split(key, (POINTS, per_point))
    _, curve = jax.lax.scan(part, (logits, optimizer.init(logits)), keys)
    return jnp.concatenate([measure(logits)[None], curve])


# ---- The curriculum of a small model.


def run_course(config: Config, worlds: World) -> dict[str, Any]:
    """Course -> what a round brings on answers of the data, and of the RLHF policy, [seeds, 2]."""
    keys = jax.random.split(jax.random.key(config.seed + 2), config.num_seeds)
    return jax.jit(jax.vmap(partial(course_world, config)))(worlds, keys)


def course_world(config: Config, world: World, key: jax.Array) -> dict[str, jax.Array]:
    """An improver with logits log editor + theta . (F(y) F(y_ref)), which sees no answer alone."""
    found, sizes = features(config.bits), config.course
    gaps = gap_matrix(config, world.u, world.v)
    editor = editor_logps(config)
    rlhf = regularised_optimum(found @ world.reward, world.base_logps, beta=config.beta)
    sources = jnp.stack([world.base_logps, rlhf])  # of references

    def logps(theta: jax.Array, refs: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(editor[refs] + (found[refs] * theta) @ found.T)

    def objective(theta: jax.Array, refs: jax.Array, answers: jax.Array) -> jax.Array:
        at = partial(jnp.take_along_axis, indices=answers, axis=-1)
        now = at(logps(theta, refs))
        rewards = at(gaps[refs]) - config.beta * (now - at(editor[refs]))
        return jnp.mean(reinforce_loss(now, leave_one_out_advantages(rewards)))

    def learn(course: jax.Array) -> jax.Array:
        optimizer = optax.adam(sizes.rate)

        def step(carry: Any, given: Any) -> tuple[Any, None]:
            theta, state = carry
            key, source = given
            ref_key, answer_key = jax.random.split(key)
            refs = jax.random.categorical(ref_key, sources[source], shape=(sizes.references,))
            shape = (sizes.samples, sizes.references)
            answers = jax.random.categorical(answer_key, logps(theta, refs), shape=shape).T
            slope = jax.grad(objective)(theta, refs, answers)
            change, state = optimizer.update(slope, state)
            return (theta + change, state), None

        theta = jnp.zeros(found.shape[-1])
        keys = jax.random.split(key, sizes.steps)
        (theta, _), _ = jax.lax.scan(step, (theta, optimizer.init(theta)), (keys, course))
        laws = jnp.exp(sources)
        table = jnp.exp(logps(theta, jnp.arange(len(found))))
        return laws @ table @ world.quality - laws @ world.quality

    late = jnp.arange(sizes.steps) >= sizes.steps // 2
    courses = {
        "data": jnp.zeros(sizes.steps, int),
        "own": jnp.ones(sizes.steps, int),
        "data, then own": late.astype(int),
    }
    return {name: learn(course) for name, course in courses.items()}
