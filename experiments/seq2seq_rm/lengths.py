"""Answers that differ in length alone: six content tokens, a neutral tail, the end."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.seq2seq_rm.config import Config
from rlhf_jax.algos.correction_model import fit_correction_table, make_token_rewards
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.policies.tabular import tabular_policy, tabular_rewriting
from rlhf_jax.types import PreferenceBatch, Trajectory

CONTENT, TAIL, END, PAD = range(4)
NUM_TOKENS = 4
CONTENT_LENGTH = 6
LONGEST = 16  # tail; a Poisson tail of mean 3 is longer once in ten million
STEPS = CONTENT_LENGTH + LONGEST + 1
CHOSEN_TAIL, REJECTED_TAIL = 3.0, 1.0  # means
TAILS = tuple(range(11))  # of the answers that are paid
FLAT_FROM = 2


def length_study(config: Config) -> dict[str, np.ndarray]:
    """returns, summed: [seeds, tails] by the paper's rule, divided by length and not; backoff: the
    same as returns with the back-off of the policies' panel; seen: [seeds, tails] chosen answers
    with each tail; more: returns from `more_pairs`; weight, even: [seeds] Bradley-Terry weight of a
    tail token, and the same where both tails have one law."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), config.num_seeds)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(partial(run_lengths, config)))(keys))


def run_lengths(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One set of pairs, and a larger one."""
    chosen, rejected, other = draw_tails(key, config.length_pairs)
    table = fit_tails(chosen, rejected)  # every position was seen: nothing to back off to
    more = draw_tails(jax.random.fold_in(key, 1), config.more_pairs)
    return {
        "returns": returns(table),
        "summed": returns(table, by_length=False),
        "backoff": returns(fit_tails(chosen, rejected, backoff=config.backoff)),
        "seen": jnp.sum(chosen[:, None] == jnp.asarray(TAILS), axis=0),
        "more": returns(fit_tails(more[0], more[1])),
        "weight": length_weight(chosen, rejected),
        "even": length_weight(other, rejected),
    }


def draw_tails(key: Key[Array, ""], count: int) -> list[Int[Array, "N"]]:
    """Tails of chosen and of rejected answers, and others by the law of the rejected ones."""
    keys, means = jax.random.split(key, 3), (CHOSEN_TAIL, REJECTED_TAIL, REJECTED_TAIL)
    return [
        jnp.minimum(jax.random.poisson(k, mean, (count,)), LONGEST)
        for k, mean in zip(keys, means, strict=True)
    ]


def fit_tails(chosen: Int[Array, "N"], rejected: Int[Array, "N"], backoff: float = 0.0) -> Array:
    """The table that rewrites answers, from pairs with these tails."""
    pairs = PreferenceBatch(answers_of(chosen), answers_of(rejected))
    sizes = {"num_states": STEPS, "num_actions": NUM_TOKENS}
    return fit_correction_table(pairs, tabular_rewriting(NUM_TOKENS), backoff=backoff, **sizes)


def returns(table: Array, *, by_length: bool = True) -> Float[Array, "tails"]:
    """The sum of the rewards of an answer with each of TAILS."""
    policy = tabular_policy(STEPS * NUM_TOKENS, NUM_TOKENS)
    rule = partial(seq2seq_token_rewards, by_length=by_length)
    rewards = make_token_rewards(policy, tabular_rewriting(NUM_TOKENS), rule=rule)
    return rewards(table, answers_of(jnp.asarray(TAILS))).sum(-1)


def answers_of(tails: Int[Array, "N"]) -> Trajectory:
    """Answers with these tails; the end counts, padding does not."""
    steps, last = jnp.arange(STEPS), CONTENT_LENGTH + tails[:, None]
    tokens = jnp.where(steps < CONTENT_LENGTH, CONTENT, TAIL)
    tokens = jnp.where(steps < last, tokens, jnp.where(steps == last, END, PAD))
    return Trajectory(jnp.broadcast_to(steps, tokens.shape), tokens, steps <= last)


def length_weight(chosen: Int[Array, "N"], rejected: Int[Array, "N"]) -> Array:
    """Bradley-Terry weight of one tail token, by Newton steps from 0."""
    chosen, rejected = chosen.astype(float), rejected.astype(float)

    def loss(weight: Array) -> Array:
        return jnp.mean(bradley_terry_loss(weight * chosen, weight * rejected))

    def step(_, weight: Array) -> Array:
        return weight - jax.grad(loss)(weight) / jax.hessian(loss)(weight)

    return jax.lax.fori_loop(0, 10, step, jnp.zeros(()))
