"""A lab of one logit for each word and answers of one word: recipes without a transformer."""

import jax
import jax.numpy as jnp

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import LanguageLab, text_task
from rlhf_jax.sampling.keys import row_keys
from rlhf_jax.types import Policy, Rollout

WORDS = ("blue", "green", "red")
VOCABULARY = standard_vocabulary(train_word_tokenizer(WORDS))
IDS = {word: VOCABULARY.tokenizer.token_to_id(word) for word in WORDS}
WORTH = {"red": 2.0, "green": 1.0}
PROMPTS = [f"{a} {b}" for a in WORDS for b in WORDS] * 2
TASK = text_task(
    PROMPTS,
    lambda prompts, answers: {"worth": [WORTH.get(text, 0.0) for text in answers]},
    objective="worth",
    heldout=5,
)


def words(**probs) -> jax.Array:
    """Params [V] of the policy that says each word with this probability, and nothing else."""
    params = jnp.full(VOCABULARY.size, -30.0)
    for word, prob in probs.items():
        params = params.at[IDS[word]].set(jnp.log(prob))
    return params


def one_word_lab() -> LanguageLab:
    """Params are the logits [V]; the reward model's are a score for each word, [V]."""

    def logits(params, inputs):
        return jnp.broadcast_to(params, (*inputs.ids.shape[:-1], 1, VOCABULARY.size))

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    def draw(params, prompts, key, samples, first=0):
        ids, mask = (jnp.repeat(jnp.asarray(x)[:, None], samples, 1) for x in prompts.inputs)
        numbers = jnp.broadcast_to(first + jnp.arange(samples), ids.shape[:2])
        rows = jnp.broadcast_to(jnp.asarray(prompts.indices)[:, None], ids.shape[:2])
        keys = row_keys(key, rows, numbers).reshape(-1)
        actions = jax.vmap(lambda key: jax.random.categorical(key, params))(keys)
        actions = actions.reshape(*ids.shape[:2], 1)
        full = jnp.ones(actions.shape, bool)
        trajectory = language_trajectory(ids, mask, actions, full)
        found = logps(params, trajectory.inputs, actions)
        return Rollout(trajectory, found, found, full[..., 0])

    fields = (
        dict.fromkeys(LanguageLab._fields)
        | LanguageLab._field_defaults
        | {
            "seed": 0,
            "vocabulary": VOCABULARY,
            "prompt_length": 3,
            "answer_length": 1,
            "policy": Policy(lambda key: jnp.zeros(VOCABULARY.size), logits, logps),
            "draw": draw,
            "token_logps": lambda params, t: logps(params, t.inputs, t.actions),
            "scores": lambda params, t: params[t.actions[..., 0]],
        }
    )
    return LanguageLab(**fields)
