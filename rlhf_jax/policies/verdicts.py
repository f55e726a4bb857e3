"""A language model as a judge of two answers: it reads both, and its next token is the verdict."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.models import Transformer
from rlhf_jax.policies.language import language_embedding, pair_row
from rlhf_jax.types import Params, Trajectory, VerdictFn


def language_verdicts(
    model: Transformer, *, separator: int, verdicts: tuple[int, int]
) -> VerdictFn:
    """A generative pairwise judge, with the parameters of a policy and no new head.

    It reads the row `x y separator y'` and the row `x y' separator y`. The log-probs are those of
    two tokens after the last real token of each. `losses.feedback` has what is made of them:
    `verdict_loss` and `verdict_token_loss` to train, `verdict_margins` to judge.

    Args:
      model: from `models.make_transformer`.
      separator: id of the token between the answers, as in `language_preference`.
      verdicts: ids of the tokens A ("the first is better") and B.
    Returns:
      VerdictFn of two trajectories over `LanguageInputs`, one document per row, with the same
      prompts and leading axes; T may differ.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: the paper's prompt was not available; the row has no words of a question, so a model
      must be trained to judge.
    """
    ids = f"[0, {model.config.vocab_size})"
    check_range(ids, separator=separator, first=verdicts[0], second=verdicts[1])
    if verdicts[0] == verdicts[1]:
        raise ValueError(f"two verdicts need two tokens, got {verdicts[0]} for both")
    embedding, columns = language_embedding(model), np.array(verdicts)

    def asked(params: Params, first: Trajectory, second: Trajectory) -> Float[Array, "*B 2"]:
        row = pair_row(first.inputs, second.inputs, separator)
        logits = model.unembed(params, embedding(params, row)).astype(jnp.float32)
        return jax.nn.log_softmax(logits, axis=-1)[..., columns]

    def logps(params: Params, first: Trajectory, second: Trajectory) -> Float[Array, "*B 2 2"]:
        orders = [asked(params, first, second), asked(params, second, first)]
        return jnp.stack(orders, axis=-2)

    return VerdictFn(model.init, logps)
