"""A small transformer as a judge: supervised on chosen judgements, then trained by the rule."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.think_rm.config import Config, JudgeSizes
from experiments.think_rm.sums import (
    FIRST,
    PAD,
    STOPS,
    VALUES,
    WORDS,
    Demonstrations,
    answer_length,
    demonstrations,
    draw_comparisons,
    prompt_length,
    teacher_judgements,
)
from rlhf_jax.algos import sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.groups import group_normalised_advantages
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.masking import token_mean
from rlhf_jax.ops.verdicts import majority_verdicts, verdict_credits, verdict_rewards
from rlhf_jax.policies.language import language_decoder, language_policy, language_trajectory
from rlhf_jax.sampling.decode import SamplingConfig, sample_many
from rlhf_jax.types import Params, Policy, Rollout

CLIP = 0.2
EPS = 1e-6  # of GRPO's deviation, as in the paper's code
KEPT = ("longest", "random", "shortest")  # of the right judgements
SHUFFLED = "longest, labels shuffled"
MEASURES = ("accuracy", "vote", "thinking", "unread")
Arrays = dict[str, np.ndarray]


class Judge(NamedTuple):
    """The model's two readings."""

    policy: Policy
    draw: partial


def make_judge(sizes: JudgeSizes) -> Judge:
    """A transformer with learned positions; a verdict ends a judgement."""
    config = TransformerConfig(
        vocab_size=WORDS,
        d_model=sizes.width,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        num_kv_heads=sizes.heads,
        head_dim=sizes.width // sizes.heads,
        d_ff=4 * sizes.width,
        positions="learned",
        max_positions=prompt_length(sizes) + answer_length(sizes),
    )
    model = make_transformer(config)
    sampling = SamplingConfig(max_new_tokens=answer_length(sizes), stop_ids=STOPS, pad_id=PAD)
    draw = partial(sample_many, language_decoder(model), config=sampling)
    return Judge(language_policy(model), draw)


@partial(jax.jit, static_argnames="sizes")
def fine_tuned(
    sizes: JudgeSizes,
    prompts: Int[Array, "M P"],
    tokens: Int[Array, "M T"],
    mask: Array,
    count: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Params, Float[Array, "steps"]]:
    """A judge fitted to the first `count` demonstrations, and its losses."""
    judge, (start_key, order_key) = make_judge(sizes), jax.random.split(key)
    rate = optax.cosine_decay_schedule(sizes.rate, sizes.steps, 0.1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    update = sft.make_update(judge.policy, optimizer)

    def step(state, number):
        rows = jax.random.randint(jax.random.fold_in(order_key, number), (sizes.batch,), 0, count)
        seen = jnp.ones((sizes.batch, prompts.shape[1]), bool)
        batch = language_trajectory(prompts[rows], seen, tokens[rows], mask[rows])
        state, metrics = update(state, batch)
        total, weight = metrics["loss"]
        return state, total / weight

    start = init_state(judge.policy.init(start_key), optimizer)
    state, losses = jax.lax.scan(step, start, jnp.arange(sizes.steps))
    return state.params, losses


def read(rollout: Rollout) -> Float[Array, "B K"]:
    """The verdict of each judgement; NaN where it was cut before it had one."""
    trajectory = rollout.trajectory
    lengths = jnp.sum(trajectory.mask, axis=-1)
    last = jnp.take_along_axis(trajectory.actions, lengths[..., None] - 1, axis=-1)[..., 0]
    places = jnp.clip(last - FIRST, 0, len(VALUES) - 1)
    return jnp.where(rollout.finished, jnp.asarray(VALUES, jnp.float32)[places], jnp.nan)


def judgements(
    judge: Judge, params: Params, prompts: Int[Array, "B P"], key: Key[Array, ""], samples: int
) -> Rollout:
    """Samples of each comparison, at temperature 1."""
    rows = jnp.arange(len(prompts))
    numbers = jnp.broadcast_to(jnp.arange(samples), (len(prompts), samples))
    mask = jnp.ones(prompts.shape, bool)
    return judge.draw(params, prompts, mask, key, prompt_indices=rows, sample_indices=numbers)


def token_loss(token_logps, old_token_logps, ref_token_logps, advantages, mask, *, beta):
    """GRPO's clipped loss of tokens with the KL in it, as the paper's code has them."""
    losses = dapo_loss(
        token_logps, old_token_logps, advantages, mask, clip_eps_low=CLIP, clip_eps_high=CLIP
    )
    return losses + beta * k3(*(jnp.where(mask, x, 0.0) for x in (token_logps, ref_token_logps)))


@partial(jax.jit, static_argnames="sizes")
def ruled(
    sizes: JudgeSizes,
    params: Params,
    prompts: Int[Array, "S B P"],
    labels: Float[Array, "S B"],
    key: Key[Array, ""],
) -> tuple[Params, dict[str, Array]]:
    """The judge after rule-based RL, and the mean reward and thinking of each step [S]."""
    judge = make_judge(sizes)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(sizes.rl_rate))
    loss = partial(token_loss, beta=sizes.beta)
    update = make_answer_update(judge.policy, optimizer, loss, reduction=token_mean)

    def step(state, given):
        asked, wanted, number = given
        own_key = jax.random.fold_in(key, number)
        rollout = judgements(judge, state.params, asked, own_key, sizes.samples)
        answers = rollout.trajectory
        wanted = jnp.broadcast_to(wanted[:, None], rollout.finished.shape)
        rewards = verdict_rewards(read(rollout), wanted)
        columns = {
            "old_token_logps": rollout.token_logps,
            "ref_token_logps": judge.policy.logps(params, answers.inputs, answers.actions),
            "advantages": group_normalised_advantages(rewards, eps=EPS),
        }
        found = {"reward": jnp.mean(rewards), "thinking": thinking(rollout)}
        return update(state, AnswerBatch(answers, columns))[0], found

    start = init_state(params, optimizer)
    steps = (prompts, labels, jnp.arange(len(labels)))
    state, found = jax.lax.scan(step, start, steps)
    return state.params, found


def thinking(rollout: Rollout) -> Float[Array, ""]:
    """Mean number of tokens before the verdict."""
    counted = jnp.sum(rollout.trajectory.mask, axis=-1)
    return jnp.mean((counted - rollout.finished).astype(float))


@partial(jax.jit, static_argnames="sizes")
def measured_judge(
    sizes: JudgeSizes,
    params: Params,
    prompts: Int[Array, "N P"],
    labels: Float[Array, "N"],
    key: Key[Array, ""],
) -> dict[str, Array]:
    """Strict accuracy of one judgement and of a vote, thinking, and by forced thinking [L + 1].

    borrowed: the same with the columns that the judge has written for another comparison, which
      are as long and as likely, and say nothing about this one.
    """
    judge = make_judge(sizes)
    rollout = judgements(judge, params, prompts, key, sizes.votes)
    verdicts = read(rollout)
    each = jnp.broadcast_to(labels[:, None], verdicts.shape)
    thoughts = forced_thoughts(sizes, judge.policy, params, prompts)
    forced, borrowed = (
        verdict_credits(found, jnp.broadcast_to(labels[:, None], found.shape))
        for found in (
            verdicts_after(judge.policy, params, prompts, given)
            for given in (thoughts, jnp.roll(thoughts, 1, axis=0))
        )
    )
    return {
        "accuracy": jnp.mean(verdict_credits(verdicts, each)),
        "vote": jnp.mean(verdict_credits(majority_verdicts(verdicts), labels)),
        "thinking": thinking(rollout),
        "unread": jnp.mean(jnp.isnan(verdicts).astype(float)),
        "forced": jnp.mean(forced, axis=0),
        "borrowed": jnp.mean(borrowed, axis=0),
    }


def answer_logits(
    policy: Policy, params: Params, prompts: Int[Array, "N P"], tokens: Int[Array, "N T"]
) -> Float[Array, "N T V"]:
    """Logits of each token of these judgements."""
    seen, mask = jnp.ones(prompts.shape, bool), jnp.ones(tokens.shape, bool)
    return policy.logits(params, language_trajectory(prompts, seen, tokens, mask).inputs)


def forced_thoughts(
    sizes: JudgeSizes, policy: Policy, params: Params, prompts: Int[Array, "N P"]
) -> Int[Array, "N T"]:
    """The judge's likeliest sums of all columns, then one place for a verdict."""
    longest = answer_length(sizes)

    def write(place: Int[Array, ""], tokens: Int[Array, "N T"]) -> Int[Array, "N T"]:
        sums = answer_logits(policy, params, prompts, tokens)[:, place, : PAD - 1]
        return tokens.at[:, place].set(jnp.argmax(sums, axis=-1))

    return jax.lax.fori_loop(0, longest - 1, write, jnp.zeros((len(prompts), longest), int))


def verdicts_after(
    policy: Policy, params: Params, prompts: Int[Array, "N P"], thoughts: Int[Array, "N T"]
) -> Float[Array, "N C"]:
    """The likeliest verdict after 0, 1, ..., L columns of these thoughts."""
    logits = answer_logits(policy, params, prompts, thoughts)
    return jnp.asarray(VALUES, jnp.float32)[jnp.argmax(logits[:, ::2, FIRST:], axis=-1)]


def padded(sizes: JudgeSizes, rows: Demonstrations) -> tuple[Array, Array, Array, int]:
    """The demonstrations with one shape for all choices, and how many there are."""
    fill = sizes.pairs - len(rows.tokens)
    arrays = (rows.prompts, rows.tokens, rows.mask)
    prompts, tokens, mask = (jnp.asarray(np.pad(x, ((0, fill), (0, 0)))) for x in arrays)
    return prompts, tokens, mask, len(rows.tokens)


def judge_study(config: Config) -> Arrays:
    """Every judge before and after RL, [num_seeds, ...]: "<judge>/<sft or rl>/<measure>"."""
    runs = [one_seed(config.judge, config.seed + n) for n in range(config.judge.num_seeds)]
    return {name: np.stack([np.asarray(run[name]) for run in runs]) for name in runs[0]}


def one_seed(sizes: JudgeSizes, seed: int) -> dict[str, Array]:
    """All judges of one data set."""
    rng = np.random.default_rng(seed)
    asked = draw_comparisons(sizes, rng, sizes.pairs)
    given = teacher_judgements(sizes, rng, asked)
    test = draw_comparisons(sizes, rng, sizes.test)
    fresh = draw_comparisons(sizes, rng, sizes.rl_steps * sizes.rl_pairs)
    shape = (sizes.rl_steps, sizes.rl_pairs)
    prompts, labels = fresh.prompts.reshape(*shape, -1), fresh.labels.reshape(shape)
    start, order, measuring = jax.random.split(jax.random.key(seed), 3)
    held = (jnp.asarray(test.prompts), jnp.asarray(test.labels, jnp.float32), measuring)
    found: dict[str, Array] = {}
    tuned = {}
    for keep in KEPT:
        rows = demonstrations(asked, given, keep=keep, seed=seed)
        params, losses = fine_tuned(sizes, *padded(sizes, rows), start)
        tuned[keep] = params
        found |= {f"{keep}/sft/loss": losses, f"{keep}/columns": rows.columns.mean()}
        found |= named(f"{keep}/sft", measured_judge(sizes, params, *held))
    found["with a right judgement"] = jnp.asarray(rows.counts["kept"] / rows.counts["pairs"])
    labelled = dict.fromkeys(KEPT, labels) | {SHUFFLED: rng.permutation(labels.ravel())}
    for name, wanted in labelled.items():
        wanted = jnp.asarray(wanted.reshape(shape), jnp.float32)
        first = tuned[name.partition(",")[0]]
        params, curves = ruled(sizes, first, jnp.asarray(prompts), wanted, order)
        found |= named(f"{name}/curve", curves)
        found |= named(f"{name}/rl", measured_judge(sizes, params, *held))
    return found


def named(prefix: str, found: dict[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": value for name, value in found.items()}
