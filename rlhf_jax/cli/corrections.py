"""Reward models that rewrite answers: training on pairs, and held-out numbers.

Their folder is that of a language model with a file CORRECTIONS beside it.
"""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.algos.correction_model import TokenRule
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.layout import bucketing
from rlhf_jax.cli.measures import Numbers, token_loss
from rlhf_jax.cli.options import Padding
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.reward_measures import beside_baselines, reward_quality
from rlhf_jax.cli.session import Start
from rlhf_jax.hf import load_model
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.recipes import LanguageLab, Reward, correction_model, correction_reward, pair_rows
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.corrections import MapLosses, correction_token_rewards, map_losses
from rlhf_jax.recipes.rows import Records, in_chunks, pair_batch
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

CORRECTIONS = "correction_reward.json"  # {"identity_weight": w of the training}
RULES: dict[str, TokenRule] = {
    "correction": seq2seq_token_rewards,
    "correction_sum": partial(seq2seq_token_rewards, by_length=False),
}


def correction_training(
    opened: Opened, start: Start, padding: Padding, *, identity_weight: float, batch_size: int
) -> Training:
    """A model that writes the chosen answer where it has read either, from pairs.

    Raises:
      UserError: a prompt with two answers has more tokens than the model has positions.
    """
    lab, records, held = start.lab, opened.records, opened.held
    check_positions(opened.base.config, lab)
    layout = bucketing(lab, records, padding, batch_size=batch_size)
    scoring, losses = scoring_lab(lab), map_losses(lab)
    return Training(
        lab=lab,
        first=start.params,
        recipe=partial(correction_model, identity_weight=identity_weight),
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, **layout),
        quality=partial(correction_quality, scoring, losses, held, batch_size=batch_size),
        compare=partial(beside_baselines, scoring, records, held, batch_size=batch_size),
        export=start.merge,
        files={CORRECTIONS: (json.dumps({"identity_weight": identity_weight}) + "\n").encode()},
    )


def scoring_lab(lab: LanguageLab, name: str = "correction") -> LanguageLab:
    """The lab with the sum of an answer's rewards as its score. name: of RULES."""
    rewards = correction_token_rewards(lab, RULES[name])
    return lab._replace(scores=jax.jit(lambda *given: rewards(*given).sum(-1)))


def correction_quality(
    lab: LanguageLab, losses: MapLosses, records: Records, params: Params, *, batch_size: int
) -> Numbers:
    """What `reward_quality` says of the scores, and the nats per token of both maps.

    Args:
      lab: of `scoring_lab`. losses: of `map_losses`.
    """
    if not records:
        return {}
    found = reward_quality(lab, records, params, batch_size=batch_size)

    def work(narrow: LanguageLab, part: Records) -> np.ndarray:
        return in_chunks(
            lambda rows: losses(params, pair_batch(narrow, rows)), part, size=batch_size
        )

    sums = by_length(work, lab, records, batch_size=batch_size).astype(float)
    for i, name in enumerate(("correction loss", "identity loss")):
        found[name] = token_loss(-sums[:, i], sums[:, 2])
    return found


def has_corrections(folder: Path) -> bool:
    """Whether this is the folder of a model that rewrites answers."""
    return (folder / CORRECTIONS).is_file()


def check_positions(config: TransformerConfig, lab: LanguageLab) -> None:
    """UserError where rows of the lab's prompts with two answers are longer than the model."""
    limit, tokens = config.position_limit, lab.prompt_length + 2 * lab.answer_length + 1
    if limit is not None and tokens > limit:
        raise UserError(
            f"a prompt with two answers has up to {tokens} tokens, and the model that rewrites "
            f"has {limit} positions: lower --prompt-length or --answer-length"
        )


def open_corrections(
    folder: Path, rule: str = "correction", *, mesh: Mesh | None = None
) -> tuple[LanguageLab, Reward]:
    """The folder of a model that rewrites answers as a lab and a reward, which has its parameters.

    The lab's `scores` are the sums of the rewards of an answer's tokens, by a name of RULES.

    Raises:
      UserError: the folder has no such model.
    """
    if not has_corrections(folder):
        raise UserError(
            f"{folder} has no file {CORRECTIONS}: it does not rewrite answers; "
            "rlhf reward --kind correction makes a model that does"
        )
    with reading_input():
        found = load_model(folder, mesh=mesh)
        lab = reward_lab(folder, found, 0)
    return scoring_lab(lab, rule), correction_reward(lab, found.params, rule=RULES[rule])
