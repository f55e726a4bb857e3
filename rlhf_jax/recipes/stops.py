"""Stop strings: where the answers of a base model end, which goes on with turns of others.

    lab = stopped_lab(lab, ["customer :"])

A draw of this lab ends at the last token of the first stop string. Those tokens count, as a stop
token does: the policy chose to end there. Nothing after them counts or is attended to. The text of
an answer is what stands before the string, so that is what tasks, judges and tables read.
"""

from bisect import bisect_left
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.draws import First
from rlhf_jax.sharding import on_host, split_batch
from rlhf_jax.types import Params, Prompts, Rollout, Vocabulary


def stopped_lab(lab: LanguageLab, stops: Sequence[str]) -> LanguageLab:
    """The lab with answers that end at the first of these strings; of none, the lab itself.

    An answer is still decoded up to its stop token or its last column. A reward model on the device
    reads the tokens of the stop string; scores of texts do not.

    Raises:
      ValueError: stops are one text, or one of them is empty.
    """
    if isinstance(stops, str) or not all(stops):
        raise ValueError(f"stops must be strings that are not empty, got {stops!r}")
    if not stops:
        return lab

    def draw(
        params: Params,
        prompts: Prompts,
        key: jax.Array,
        samples: int,
        first: First = 0,
        *,
        sampling: SamplingConfig | None = None,
    ) -> Rollout:
        options = {} if sampling is None else {"sampling": sampling}
        rollout = lab.draw(params, prompts, key, samples, first, **options)
        ids = np.asarray(on_host(rollout.trajectory.actions))
        lengths = stop_lengths(lab.vocabulary, ids.reshape(-1, ids.shape[-1]), stops)
        lengths = lengths.reshape(ids.shape[:-1])
        lengths = jnp.asarray(lengths) if lab.mesh is None else split_batch(lengths, lab.mesh)
        return cut_answers(rollout, lengths, pad_id=lab.vocabulary.pad_id)

    return lab._replace(draw=draw, stops=tuple(stops))


def stop_lengths(
    vocabulary: Vocabulary, ids: Int[np.ndarray, "N T"], stops: Sequence[str]
) -> Int[np.ndarray, "N"]:
    """Tokens of each answer up to the end of the first stop string; T + 1 where there is none."""
    return np.array([_length(vocabulary, row.tolist(), stops) for row in ids], np.int32)


def _length(vocabulary: Vocabulary, row: list[int], stops: Sequence[str]) -> int:
    def stopped(count: int) -> bool:
        (text,) = decode_rows(vocabulary, [row[:count]])
        return any(stop in text for stop in stops)

    # A longer part of an answer has the text of a shorter one at its beginning.
    return bisect_left(range(len(row) + 1), True, key=stopped)


def cut_answers(rollout: Rollout, lengths: Int[Array, "*B"], *, pad_id: int) -> Rollout:
    """The answers of a language model with at most so many tokens.

    Args:
      lengths: [*B] from `stop_lengths`: at most T where a stop string ended the answer.
    """
    trajectory = rollout.trajectory
    inputs, actions = trajectory.inputs, trajectory.actions
    kept = jnp.arange(actions.shape[-1]) < lengths[..., None]
    mask = trajectory.mask & kept
    count = inputs.ids.shape[-1] - actions.shape[-1]
    prompt_ids, prompt_mask = inputs.ids[..., :count], inputs.segments[..., :count] > 0
    return Rollout(
        language_trajectory(prompt_ids, prompt_mask, jnp.where(kept, actions, pad_id), mask),
        jnp.where(mask, rollout.token_logps, 0.0),
        jnp.where(mask, rollout.sampling_token_logps, 0.0),
        rollout.finished | (lengths <= actions.shape[-1]),
    )
