"""A lab with one logit per word and one value per lab: recipes without a transformer to compile."""

import jax
import jax.numpy as jnp

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.recipes import LanguageLab, make_lab
from rlhf_jax.types import Policy, ValueFn

WORDS = ("red", "green", "blue", "grey")
VOCABULARY = standard_vocabulary(train_word_tokenizer(WORDS))
RED, GREEN = (VOCABULARY.tokenizer.token_to_id(word) for word in WORDS[:2])


def transformer_lab(prompt_length: int = 3, answer_length: int = 4) -> LanguageLab:
    config = TransformerConfig(
        vocab_size=VOCABULARY.size,
        d_model=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=4,
        d_ff=8,
    )
    return make_lab(
        config, VOCABULARY, prompt_length=prompt_length, answer_length=answer_length, seed=1
    )


def word_lab(prompt_length: int = 3, answer_length: int = 4) -> LanguageLab:
    """Params of the policy are [V]: each token has the probability softmax(params)."""

    def logits(params, inputs):
        shape = (*inputs.ids.shape[:-1], inputs.completion_length, VOCABULARY.size)
        return jnp.broadcast_to(params, shape)

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    def values(params, inputs):
        return jnp.broadcast_to(params, (*inputs.ids.shape[:-1], inputs.completion_length))

    return transformer_lab(prompt_length, answer_length)._replace(
        policy=Policy(lambda key: jnp.zeros(VOCABULARY.size), logits, logps),
        value=ValueFn(lambda key: jnp.zeros(()), values),
        axes={"policy": (None,), "value": ()},
    )


def share_of(word_id: int, params: jax.Array) -> float:
    return float(jax.nn.softmax(params)[word_id])
