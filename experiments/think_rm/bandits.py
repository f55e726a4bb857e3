"""Policies learn from comparisons of their answers, or from scores against one reference answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.think_rm.config import BanditSizes, Config
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.group_policy_gradient import grpo_loss
from rlhf_jax.ops.groups import group_normalised_advantages, pairwise_advantages
from rlhf_jax.ops.verdicts import verdict_gaps
from rlhf_jax.policies.tabular import tabular_policy

CLIP = 0.2
CODE_EPS = 1e-6  # in the root, in the paper's code
POINTWISE = ("pointwise graded", "pointwise win or lose")
METHODS = (
    "pairwise graded",
    "pairwise binary",
    *POINTWISE,
    "binary, lost verdicts masked",
    "binary, lost verdicts as ties",
    "binary over length",
)
Arrays = dict[str, np.ndarray]


def judged(sizes: BanditSizes, gaps: Float[Array, "*B"], key: Key[Array, ""]) -> Float[Array, "*B"]:
    """Graded verdicts on answers of these differences r_first - r_second; 0 on equal ones."""
    felt = sizes.slope * gaps + sizes.noise * jax.random.normal(key, gaps.shape)
    graded = jnp.sign(felt) * jnp.clip(jnp.ceil(jnp.abs(felt)), 1.0, 3.0)
    return jnp.where(gaps == 0, 0.0, -graded)


def all_advantages(
    sizes: BanditSizes, rewards: Float[Array, "A"], actions: Int[Array, "B K"], key: Key[Array, ""]
) -> Float[Array, "M B K"]:
    """Of every method in METHODS, from the same judgements where they ask for the same ones."""
    pair_key, point_key, lost_key = jax.random.split(key, 3)
    own = rewards[actions]
    verdicts = judged(sizes, own[..., :, None] - own[..., None, :], pair_key)
    signs = jnp.sign(verdicts)
    lost = jnp.where(jax.random.bernoulli(lost_key, sizes.lost, signs.shape), jnp.nan, signs)
    lengths = jnp.full(signs.shape, sizes.length)
    pairwise = partial(pairwise_advantages, eps=0.0)
    # The reference answer is one of the arms, the median.
    reference = jnp.sort(rewards)[rewards.size // 2]
    scores = -judged(sizes, own - reference, point_key)
    return jnp.stack(
        [
            pairwise(verdict_gaps(verdicts)),
            pairwise(verdict_gaps(signs)),
            group_normalised_advantages(scores),
            group_normalised_advantages(jnp.sign(scores)),
            pairwise(verdict_gaps(lost)),
            pairwise(verdict_gaps(jnp.nan_to_num(lost))),
            pairwise(verdict_gaps(signs, lengths), root_eps=CODE_EPS),
        ]
    )


def learn(
    sizes: BanditSizes, method: Int[Array, ""], groups: Int[Array, ""], key: Key[Array, ""]
) -> Float[Array, "T"]:
    """Normalised regret before each step and at the end: (r_max - E r) / (r_max - mean r).

    groups: prompts that count in a step, at most `wide_groups`, which are drawn for all methods.
    """
    reward_key, run_key = jax.random.split(key)
    rewards = jax.random.normal(reward_key, (sizes.arms,))
    policy, optimizer = tabular_policy(1, sizes.arms), optax.sgd(sizes.rate)
    loss = partial(grpo_loss, clip_eps=CLIP, beta=sizes.beta)
    update = make_answer_update(policy, optimizer, loss)
    states = jnp.zeros((sizes.wide_groups, sizes.group), int)
    counted = jnp.broadcast_to((jnp.arange(len(states)) < groups)[:, None], states.shape)

    def step(state, number):
        draw_key, judge_key = jax.random.split(jax.random.fold_in(run_key, number))
        logps = jax.nn.log_softmax(state.params[0])
        actions = jax.random.categorical(draw_key, logps, shape=states.shape)
        advantages = all_advantages(sizes, rewards, actions, judge_key)[method]
        columns = {
            "old_token_logps": logps[actions][..., None],
            "ref_token_logps": jnp.full((*actions.shape, 1), -jnp.log(sizes.arms)),
            "advantages": advantages,
        }
        answers = bandit_trajectory(states, actions)
        batch = AnswerBatch(answers, columns, counted.astype(jnp.float32))
        return update(state, batch)[0], regret(rewards, logps)

    start = init_state(jnp.zeros((1, sizes.arms)), optimizer)
    state, found = jax.lax.scan(step, start, jnp.arange(sizes.steps))
    return jnp.append(found, regret(rewards, jax.nn.log_softmax(state.params[0])))


def regret(rewards: Float[Array, "A"], logps: Float[Array, "A"]) -> Float[Array, ""]:
    """0 for the best arm, 1 for the uniform policy."""
    best = jnp.max(rewards)
    return (best - jnp.sum(jnp.exp(logps) * rewards)) / (best - jnp.mean(rewards))


def bandit_study(config: Config) -> Arrays:
    """Regret [num_seeds, steps + 1] by method; "<pointwise method>, equal calls" has more groups.

    A group of K answers costs K (K - 1) / 2 calls of the judge for pairs, and K against one.
    """
    sizes = config.bandit
    keys = jax.random.split(jax.random.key(config.seed), sizes.num_seeds)
    runs = [(name, name, sizes.groups) for name in METHODS]
    runs += [(f"{name}, equal calls", name, sizes.wide_groups) for name in POINTWISE]
    methods = jnp.array([METHODS.index(method) for _, method, _ in runs])
    groups = jnp.array([count for *_, count in runs])
    each = jax.vmap(partial(learn, sizes), in_axes=(None, None, 0))
    found = np.asarray(jax.jit(jax.vmap(each, in_axes=(0, 0, None)))(methods, groups, keys))
    return {name: found[i] for i, (name, *_) in enumerate(runs)}


def identity_study(config: Config) -> Arrays:
    """The largest error [num_seeds] of pairwise advantages on differences of scores, beside GRPO's,
    and their size over long judgements in the paper's code relative to none."""
    sizes = config.bandit
    keys = jax.random.split(jax.random.key(config.seed + 1), sizes.num_seeds)

    def one(key: Key[Array, ""]) -> tuple[Array, Array]:
        scores = jax.random.normal(key, (sizes.groups, 6))
        gaps = scores[..., :, None] - scores[..., None, :]
        error = pairwise_advantages(gaps, eps=0.0) - group_normalised_advantages(scores, eps=0.0)
        signs = jnp.sign(-gaps)
        long = verdict_gaps(signs, jnp.full(signs.shape, sizes.length))
        code = pairwise_advantages(long, eps=0.0, root_eps=CODE_EPS)
        plain = pairwise_advantages(verdict_gaps(signs), eps=0.0)
        return jnp.max(jnp.abs(error)), jnp.linalg.norm(code) / jnp.linalg.norm(plain)

    error, shrunk = jax.jit(jax.vmap(one))(keys)
    return {"error": np.asarray(error), "shrunk": np.asarray(shrunk)}
