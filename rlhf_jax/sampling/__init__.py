"""Acting: cached decoding for language, plain draws for tables, episodes of several turns.

    draw(params, prompts, key, samples) -> Rollout [B, samples]

is a `language_draw` or a `policy_draw`. With a task's `step`, `rollout_turns` makes episodes of
such answers: a dialogue that says "try again", a tool, an environment.

    >>> import jax, numpy as np
    >>> from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
    >>> from rlhf_jax.models import TransformerConfig, make_transformer
    >>> from rlhf_jax.ops import turn_credit
    >>> from rlhf_jax.policies.language import language_decoder
    >>> from rlhf_jax.sampling.decode import SamplingConfig
    >>> from rlhf_jax.sampling.draws import language_draw
    >>> from rlhf_jax.sampling.turns import rollout_turns
    >>> from rlhf_jax.types import Prompts

    >>> words = ["name a colour", "red blue", "no try again"]
    >>> vocabulary = standard_vocabulary(train_word_tokenizer(words))
    >>> model = make_transformer(TransformerConfig(
    ...     vocab_size=vocabulary.size, d_model=8, num_layers=1, num_heads=1, num_kv_heads=1,
    ...     head_dim=8, d_ff=8))
    >>> config = SamplingConfig(max_new_tokens=4, stop_ids=vocabulary.stop_ids)
    >>> draw = language_draw(language_decoder(model), config)
    >>> ids = np.array([[vocabulary.bos_id, *vocabulary.tokenizer.encode("name a colour").ids]])
    >>> prompts = Prompts((ids, ids > 0), np.arange(1))

    >>> def step(index, history, answer):
    ...     right = "red" in answer
    ...     return "no try again", float(right), right

    >>> turns = rollout_turns(
    ...     draw, model.init(jax.random.key(0)), prompts, jax.random.key(1), 6,
    ...     vocabulary=vocabulary, length=20, max_turns=3, step=step)
    >>> trajectory = turns.rollout.trajectory
    >>> trajectory.actions.shape, turns.rewards.shape
    ((1, 6, 20), (1, 6, 3))
    >>> turn_credit(turns.rewards, turns.turn_ids, trajectory.mask, gamma=0.9).shape
    (1, 6, 20)
"""
