"""A transformer that judges strings by a verdict token, beside one with a score, on equal pairs."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from experiments.pairwise_rl.config import Config, Strings
from rlhf_jax.algos import reward_model, verdict_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses import order_bias, verdict_margins
from rlhf_jax.models import TransformerConfig, make_reward_model, make_transformer
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.verdicts import language_verdicts
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState, VerdictFn

SEPARATOR, A, B, FIRST = 1, 2, 3, 4  # ids; prompts and symbols follow
MODELS = ("verdict, two orders", "verdict, one order", "score, equal pairs", "score, equal tokens")


class Models(NamedTuple):
    """The judge, and the reward model on the same trunk."""

    judge: VerdictFn
    reward: RewardFn


def make_models(sizes: Strings) -> Models:
    """One transformer with two heads: that of its tokens, and a scalar."""
    config = TransformerConfig(
        vocab_size=FIRST + sizes.prompts + sizes.symbols,
        d_model=sizes.width,
        num_layers=sizes.layers,
        num_heads=2,
        num_kv_heads=2,
        head_dim=sizes.width // 2,
        d_ff=2 * sizes.width,
    )
    judge = language_verdicts(make_transformer(config), separator=SEPARATOR, verdicts=(A, B))
    return Models(judge, language_reward(make_reward_model(config)))


class StringPairs(NamedTuple):
    """Pairs of strings, the chosen one first, and true scores [N] of both."""

    batch: PreferenceBatch
    chosen: Array
    rejected: Array


def draw_pairs(
    key: Key[Array, ""], gold: Array, sizes: Strings, count: int, *, noise: bool
) -> StringPairs:
    """Strings that agree with the gold one in each place with a probability of their own.

    The score is the number of places that agree; labels are Bradley-Terry's, or without noise
    those of the scores, with ties left to chance.
    """
    keys = jax.random.split(key, 5)
    prompts = jax.random.randint(keys[0], (count,), 0, sizes.prompts)
    right = jax.random.uniform(keys[1], (count, 2, sizes.length))
    right = right < jax.random.uniform(keys[2], (count, 2, 1))
    other = jax.random.randint(keys[3], right.shape, 0, sizes.symbols)
    strings = jnp.where(right, gold[prompts][:, None], other)
    scores = jnp.sum(strings == gold[prompts][:, None], axis=-1)
    gaps = (scores[:, 0] - scores[:, 1]).astype(jnp.float32)
    draw = jax.random.uniform(keys[4], (count,))
    won = draw < jax.nn.sigmoid(gaps if noise else 1e3 * gaps)
    order = jnp.where(won[:, None], jnp.array([0, 1]), jnp.array([1, 0]))
    strings = jnp.take_along_axis(strings, order[..., None], axis=1)
    scores = jnp.take_along_axis(scores, order, axis=1)
    ids = FIRST + sizes.prompts + strings
    asked = (FIRST + prompts)[:, None]
    first, second = (
        language_trajectory(asked, asked > 0, x, x > 0) for x in (ids[:, 0], ids[:, 1])
    )
    return StringPairs(PreferenceBatch(first, second), scores[:, 0], scores[:, 1])


class Drawn(NamedTuple):
    """What one world and one number of pairs are trained and measured on.

    rows: [steps, batch] numbers of training pairs; the score reads on where the judge stops.
    start: key of the first weights.
    """

    pairs: PreferenceBatch
    test: StringPairs
    rows: Array
    start: Array


def string_study(config: Config) -> dict[str, np.ndarray]:
    """accuracy [N, sizes, models] on held-out pairs; bias [N, sizes] of the judge, in nats."""
    sizes = config.strings
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2), sizes.num_seeds)
    found = [_trained(sizes, drawn) for drawn in _drawn(sizes, keys)]
    accuracy, bias = (np.stack([np.asarray(x[i]) for x in found], axis=1) for i in range(2))
    return {"accuracy": accuracy, "bias": bias}


@partial(jax.jit, static_argnames="sizes")
def _drawn(sizes: Strings, keys: Key[Array, " N"]) -> list[Drawn]:
    """For each number of pairs, of all worlds."""

    def one(key: Key[Array, ""]) -> list[Drawn]:
        gold_key, pair_key, test_key, start_key, order_key = jax.random.split(key, 5)
        gold = jax.random.randint(gold_key, (sizes.prompts, sizes.length), 0, sizes.symbols)
        pairs = draw_pairs(pair_key, gold, sizes, max(sizes.sizes), noise=True).batch
        test = draw_pairs(test_key, gold, sizes, sizes.test_pairs, noise=False)
        steps = sizes.steps * row_tokens(sizes) // (2 * (1 + sizes.length))
        return [
            Drawn(pairs, test, batches(order_key, count, sizes.batch, steps), start_key)
            for count in sizes.sizes
        ]

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames="sizes")
def _trained(sizes: Strings, drawn: Drawn) -> tuple[Array, Array]:
    return jax.vmap(partial(train_both, sizes))(drawn)


def train_both(sizes: Strings, drawn: Drawn) -> tuple[Array, Array]:
    """Accuracy [models] of both from one trunk, on the same pairs in the same order."""
    models, optimizer, rows = make_models(sizes), optax.adam(sizes.rate), drawn.rows
    first = models.judge.init(drawn.start)

    def fit(update, state: TrainState, rows: Array) -> TrainState:
        def step(state: TrainState, numbers: Array) -> tuple[TrainState, None]:
            return update(state, jax.tree.map(lambda x: x[numbers], drawn.pairs))[0], None

        return jax.lax.scan(step, state, rows)[0]

    judged = verdict_model.make_update(models.judge, optimizer)
    scored = reward_model.make_update(models.reward, optimizer)
    head = {**models.reward.init(drawn.start), "trunk": first["trunk"]}
    judge = fit(judged, init_state(first, optimizer), rows[: sizes.steps]).params
    equal = fit(scored, init_state(head, optimizer), rows[: sizes.steps])
    more = fit(scored, equal, rows[sizes.steps :])
    test = drawn.test
    margins, bias = judge_margins(models.judge, judge, test.batch)
    gaps = [score_gaps(models.reward, state.params, test.batch) for state in (equal, more)]
    known = test.chosen != test.rejected
    both, first, second, *scores = (
        accuracy(x, known) for x in (margins, margins + bias, margins - bias, *gaps)
    )
    found = jnp.stack([both, 0.5 * (first + second), *scores])
    return found, jnp.mean(jnp.abs(bias))


def row_tokens(sizes: Strings) -> int:
    """Tokens that the judge reads of a pair: two rows of prompt, answer, separator, answer."""
    return 2 * (2 + 2 * sizes.length)


def batches(key: Key[Array, ""], count: int, batch: int, steps: int) -> Array:
    """[steps, batch] numbers of pairs, pass after pass in a new order; an odd rest is left out."""
    each = count // batch
    keys = jax.random.split(key, -(-steps // each))
    orders = jax.vmap(lambda k: jax.random.permutation(k, count)[: each * batch])(keys)
    return orders.reshape(-1, batch)[:steps]


def judge_margins(judge: VerdictFn, params: Params, pairs: PreferenceBatch) -> tuple[Array, Array]:
    """Two-order margins of chosen over rejected, and what the order adds."""
    logps = judge.logps(params, pairs.chosen, pairs.rejected)
    return verdict_margins(logps), order_bias(logps)


def score_gaps(reward: RewardFn, params: Params, pairs: PreferenceBatch) -> Array:
    """Score of chosen minus that of rejected."""
    return reward.scores(params, pairs.chosen) - reward.scores(params, pairs.rejected)


def accuracy(margins: Array, known: Array) -> Array:
    """Share of the known pairs with the chosen one ahead; ties count one half."""
    return jnp.sum(known * (0.5 + 0.5 * jnp.sign(margins))) / jnp.sum(known)
