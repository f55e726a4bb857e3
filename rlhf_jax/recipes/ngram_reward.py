"""A linear reward over the n-grams of an answer: what a reward model has to beat.

It is fitted by the Bradley-Terry loss, as a reward model is, in seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.checks import check_fields
from rlhf_jax.data.ngrams import fit_ngrams, ngram_features
from rlhf_jax.data.records import Pair
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.sharding import compile_update
from rlhf_jax.training import reading_input
from rlhf_jax.types import PreferenceBatch, Trajectory

NgramFit = Callable[[PreferenceBatch], jax.Array]
INTERCEPT = "\0"


@dataclass(frozen=True, kw_only=True)
class Ngrams:
    """Settings of the reward over n-grams. features: at most. max_n: longest n-gram, in words.

    l2: added to the mean loss is l2 / 2 |params|^2. steps: full-batch Adam steps.
    """

    features: int = 2000
    max_n: int = 2
    l2: float = 1e-3
    steps: int = 200
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "features", "max_n", "steps")
        check_fields(self, "[0, inf)", "l2")
        check_fields(self, "(0, 1]", "learning_rate")


def make_ngram_fit(config: Ngrams) -> NgramFit:
    """`batch -> params [d]`: full-batch Adam on the Bradley-Terry loss of a linear reward.

    The ridge l2 / 2 |params|^2 enters as l2 * params in the gradient, before Adam scales it, so
    that the fit goes to the minimum of the penalised loss.
    """
    reward = linear_reward(config.features)
    ridge = optax.add_decayed_weights(config.l2)
    optimizer = optax.chain(ridge, optax.adam(config.learning_rate))
    update = reward_model.make_update(reward, optimizer, loss=bradley_terry_loss)

    def every_step(state, batch):
        state, metrics = jax.lax.scan(
            lambda state, _: update(state, batch), state, None, length=config.steps
        )
        return state, metrics

    compiled = compile_update(every_step)

    def fit(batch: PreferenceBatch) -> jax.Array:
        state = init_state(reward.init(jax.random.key(0)), optimizer)
        return compiled(state, batch)[0].params

    return fit


def ngram_logits(
    fit: NgramFit,
    texts: Sequence[str],
    labels: Bool[np.ndarray, " N"],
    test: Sequence[str],
    config: Ngrams,
    rows: int,
) -> np.ndarray:
    """[N] logits of True for the test texts: logistic regression on n-grams, with an intercept.

    Args:
      fit, config, rows: as of `ngram_margins`; rows is at least len(texts).
    """
    # The loss of a pair with an empty text is the logistic loss; a word of every text, which
    # cannot be in one, is the intercept.
    shown = [f"{INTERCEPT} {text}" for text in texts]
    train = [
        Pair("", text, "") if label else Pair("", "", text)
        for text, label in zip(shown, labels, strict=True)
    ]
    held = [Pair("", f"{INTERCEPT} {text}", "") for text in test]
    return ngram_margins(fit, train, held, config, rows)


def ngram_margins(
    fit: NgramFit, train: Sequence[Pair], test: Sequence[Pair], config: Ngrams, rows: int
) -> np.ndarray:
    """[N] score of the chosen answer minus that of the rejected one, for the test pairs.

    The prompt is left out: it adds the same to both scores.

    Args:
      fit: from `make_ngram_fit`, of the same config.
      train, test: pairs of texts.
      rows: at least len(train); the batch is filled up to it with pairs of weight 0, so that
        folds of different sizes are one compilation.
    Raises:
      UserError: no n-gram occurs twice.
    """
    with reading_input():
        texts = [text for pair in train for text in (pair.chosen, pair.rejected)]
        vocabulary = fit_ngrams(texts, max_features=config.features, max_n=config.max_n)

    def answers(texts: list[str], rows: int) -> Trajectory:
        """One-step trajectories of features, filled up with zeros to [rows, 1, d]."""
        features = np.zeros((rows, 1, config.features), np.float32)
        known = ngram_features(vocabulary, texts)
        features[: len(texts), 0, : known.shape[1]] = known
        ones = jnp.ones((rows, 1), bool)
        return Trajectory(jnp.asarray(features), jnp.zeros((rows, 1), jnp.int32), ones)

    def batch(pairs: Sequence[Pair], rows: int) -> PreferenceBatch:
        return PreferenceBatch(
            chosen=answers([pair.chosen for pair in pairs], rows),
            rejected=answers([pair.rejected for pair in pairs], rows),
            weights=jnp.asarray(np.arange(rows) < len(pairs), jnp.float32),
        )

    params = fit(batch(train, rows))
    score = linear_reward(config.features).scores
    held_out = batch(test, len(test))
    return np.asarray(score(params, held_out.chosen) - score(params, held_out.rejected))
