"""What all folds share: the lab, the fits' lengths and the compiled measures."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.preferences.config import Config, Fit
from experiments.preferences.data import PairRows, even_batches, take
from rlhf_jax.algos import preference
from rlhf_jax.data.loader import steps_in
from rlhf_jax.data.padding import PaddedRows
from rlhf_jax.data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from rlhf_jax.hf import load_model, random_model
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.models import TransformerConfig
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import Fit as RecipeFit
from rlhf_jax.recipes import LanguageLab, make_lab
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, Policy, PreferenceBatch, Trajectory, Vocabulary


class Trunk(NamedTuple):
    """A pretrained model: what the policies start from."""

    config: TransformerConfig
    params: Params
    vocabulary: Vocabulary


class Tools(NamedTuple):
    """Of all folds; their tokenizers differ unless there is a trunk, their special ids do not.

    trunk: first parameters of the policy, or None for random ones of each fold.
    loss: of DPO. logps: `(params, prompts, answers) -> [B]` nats. margins: `(params, PairRows) ->
    [B]` score of the chosen answer minus that of the rejected one.
    """

    lab: LanguageLab
    trunk: Params | None
    fits: Mapping[str, RecipeFit]
    loss: Callable[..., jax.Array]
    logps: Callable[..., jax.Array]
    margins: Callable[..., jax.Array]


def make_tools(config: Config, rows: int) -> Tools:
    """Everything that is compiled, for training splits of up to `rows` pairs.

    Raises:
      UserError: a fit of fewer than two updates, the first of which has rate 0.
    """
    shape, trunk = config.transformer(), None
    vocabulary = Vocabulary(None, PAD_ID, BOS_ID, (EOS_ID,))  # each fold has a tokenizer of its own
    if config.trunk is not None:
        model = read_trunk(config)
        shape, trunk, vocabulary = model.config, model.params, model.vocabulary
    lab = make_lab(
        shape,
        vocabulary,
        prompt_length=config.prompt_tokens,
        answer_length=config.answer_tokens,
        seed=config.seed,
    )

    def margins(params: Params, rows: PairRows) -> jax.Array:
        batch = pair_batch(rows)
        return lab.reward.scores(params, batch.chosen) - lab.reward.scores(params, batch.rejected)

    return Tools(
        lab=lab,
        trunk=trunk,
        fits={name: make_fit(config, name, rows) for name in ("sft", "reward", "dpo")},
        loss=partial(dpo_loss, beta=config.beta),
        logps=jax.jit(partial(answer_logps, lab.policy)),
        margins=jax.jit(margins),
    )


def read_trunk(config: Config) -> Trunk:
    """The model of the folder, with random weights if they are to be `fresh`.

    Raises:
      UserError: the folder cannot be read, or it has no tokenizer.
    """
    folder = config.trunk
    assert folder is not None
    with reading_input():
        model = random_model(folder, seed=config.seed) if config.fresh else load_model(folder)
    if model.vocabulary is None:
        raise UserError(f"{folder} has no tokenizer: a trunk needs one")
    return Trunk(model.config, model.params, model.vocabulary)


def make_fit(config: Config, name: str, rows: int) -> RecipeFit:
    """Steps and optimizer of a fit: AdamW under a warm-up and a cosine to 0, gradients clipped to
    global norm 1."""
    fit: Fit = getattr(config, name)
    steps = steps_in(fit.epochs, rows=rows, batch_size=config.batch)
    if steps < 2:
        raise UserError(
            f"{name}.epochs = {fit.epochs} of {rows} pairs is one update of {config.batch}, at "
            f"rate 0: raise {name}.epochs or lower batch"
        )
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, fit.learning_rate, warmup_steps=max(steps // 10, 1), decay_steps=max(steps, 2)
    )
    adamw = optax.adamw(schedule, b2=0.99, weight_decay=fit.weight_decay)
    return RecipeFit(optax.chain(optax.clip_by_global_norm(1.0), adamw), steps)


def trajectory(prompts: PaddedRows, answers: PaddedRows) -> Trajectory:
    """Answers to prompts as a language policy reads them."""
    return language_trajectory(*map(jnp.asarray, (*prompts, *answers)))


def pair_batch(rows: PairRows, ref_logps: tuple | None = None) -> PreferenceBatch:
    """Pairs as trajectories, with the reference's log-probs (chosen, rejected) if given."""
    chosen, rejected = ref_logps or (None, None)
    return PreferenceBatch(
        chosen=trajectory(rows.prompts, rows.chosen),
        rejected=trajectory(rows.prompts, rows.rejected),
        ref_chosen_logps=chosen,
        ref_rejected_logps=rejected,
    )


def answer_logps(
    policy: Policy, params: Params, prompts: PaddedRows, answers: PaddedRows
) -> jax.Array:
    """[B] summed log-probs of answers."""
    return preference.trajectory_logps(policy, params, trajectory(prompts, answers))


def in_batches(function: Callable[..., jax.Array], parts: tuple, *, size: int) -> np.ndarray:
    """[N] `function(*parts)` over rows N, in compiled batches of one size."""
    total = len(jax.tree.leaves(parts)[0])
    out = [np.asarray(function(*take(parts, index))) for index in even_batches(total, size)]
    return np.concatenate(out)[:total]
