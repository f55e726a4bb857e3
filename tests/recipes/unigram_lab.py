"""A lab with one logit per word instead of a transformer: online recipes in milliseconds."""

from functools import partial

import jax
import jax.numpy as jnp

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import LanguageLab, text_task
from rlhf_jax.recipes.lab import stage_key
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.filters import processed_logits
from rlhf_jax.sampling.keys import row_keys
from rlhf_jax.types import Policy, Rollout

WORDS = ("red", "green", "blue", "grey")
VOCABULARY = standard_vocabulary(train_word_tokenizer(WORDS))
RED = VOCABULARY.tokenizer.token_to_id("red")
LENGTH = 3  # tokens of an answer
PROMPTS = [f"{a} {b}" for a in WORDS for b in WORDS] * 2


def reds(prompts, answers):
    """How often each answer says red."""
    return {"red": [answer.split().count("red") for answer in answers]}


TASK = text_task(PROMPTS, reds, objective="red", heldout=8)


def unigram_lab(seed=0) -> LanguageLab:
    """Params are [V]: every token of every answer is drawn from softmax(params)."""
    sampling = SamplingConfig(max_new_tokens=LENGTH, stop_ids=VOCABULARY.stop_ids)

    def logits(params, inputs):
        shape = (*inputs.ids.shape[:-1], inputs.completion_length, VOCABULARY.size)
        return jnp.broadcast_to(params, shape)

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    run = jax.jit(draw_words, static_argnames="config")

    def draw(params, prompts, key, samples, first=0, *, sampling=None):
        config = sampling or lab.sampling
        shape = (len(prompts.indices), samples)
        numbers = jnp.broadcast_to(first + jnp.arange(samples), shape)
        return run(params, prompts.inputs, prompts.indices, numbers, key, config=config)

    fields = dict.fromkeys(LanguageLab._fields) | LanguageLab._field_defaults
    fields |= {
        "seed": seed,
        "vocabulary": VOCABULARY,
        "prompt_length": 3,
        "answer_length": LENGTH,
        "policy": Policy(lambda key: jnp.zeros(VOCABULARY.size), logits, logps),
        "axes": {"policy": (None,)},
        "sampling": sampling,
        "draw": draw,
    }
    lab = LanguageLab(**fields)
    return lab


def draw_words(params, prompts, indices, numbers, key, *, config):
    """K answers to each prompt; <eos> ends one."""
    prompts = [jnp.repeat(x[:, None], numbers.shape[1], axis=1) for x in prompts]
    keys = row_keys(key, jnp.broadcast_to(indices[:, None], numbers.shape), numbers)
    drawn = processed_logits(params, temperature=config.temperature, top_k=0, top_p=1.0)
    draw = partial(jax.random.categorical, logits=drawn, shape=(LENGTH,))
    ids = jax.vmap(jax.vmap(draw))(keys)
    ended = jnp.cumsum(ids == VOCABULARY.stop_ids[0], axis=-1)
    mask = (ended == 0) | ((ended == 1) & (ids == VOCABULARY.stop_ids[0]))
    both = (jnp.where(mask, jax.nn.log_softmax(x)[ids], 0.0) for x in (params, drawn))
    return Rollout(language_trajectory(*prompts, ids, mask), *both, ended[..., -1] > 0)


def rollout_of(lab, answers) -> Rollout:
    """A rollout [B, K] of given ids under the first params, all of them counted."""
    ids = jnp.asarray(answers)
    prompts = jnp.ones((*ids.shape[:2], 2), jnp.int32)
    trajectory = language_trajectory(prompts, prompts > 0, ids, jnp.ones(ids.shape, bool))
    logps = lab.policy.logps(lab.policy.init(None), trajectory.inputs, ids)
    return Rollout(trajectory, logps, logps, jnp.zeros(ids.shape[:2], bool))


def probability_of_red(params) -> float:
    return float(jax.nn.softmax(params)[RED])


def keyed(lab):
    return stage_key(lab, "test")
