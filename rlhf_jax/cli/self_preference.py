"""`rlhf osp`: a model compares its own answers, and learns from the strengths."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online import train_online
from rlhf_jax.cli.rewards import scoring_compare
from rlhf_jax.cli.verdicts import read_verdicts
from rlhf_jax.ops.pairings import Pairing
from rlhf_jax.recipes import LanguageLab, OnlineMethod, judged_prefs, osp, verdicts_of
from rlhf_jax.training import UserError
from rlhf_jax.types import Params


@dataclass(frozen=True, kw_only=True)
class SelfPreference:
    """OSP: fresh answers are compared with each other, paired by rank, and learned from by DPO with
    soft labels, the strengths of the preferences.

    --judge compares: the folder of a pairwise judge, of rlhf reward --kind pairwise, or any other
    judge that gives probabilities. With --model and --judge the same folder, a frozen copy of the
    model judges its own answers; with --refresh the model that is trained does.
    """

    job: Job
    samples: int = 4
    """Answers to each prompt, an even number."""
    beta: float = 0.1
    """KL weight."""
    label_temperature: float = 1.0
    """Of the judge's odds: above 1 for a judge that is too sure."""
    pairing: Pairing = "halves"
    """Of K answers by rank: i with i + K/2, or the ends: i with K + 1 - i."""
    hard: bool = False
    """Labels rounded to 0 and 1, which is online DPO."""
    refresh: bool = False
    """The current weights compare the answers, in place of --judge; --model is a pairwise judge."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "(0, inf)", "beta", "label_temperature")
        if self.samples % 2:
            raise ValueError(f"samples must be even, to be paired, got {self.samples}")


def train_osp(command: str, options: SelfPreference) -> None:
    """Online self-preferring."""
    compare = scoring_compare(options.job.scoring)
    if compare is None:
        raise UserError(
            "rlhf osp needs --judge: the folder of a pairwise judge, which may be that of --model"
        )
    if options.refresh and options.job.adapter.lora_rank:
        raise UserError("--refresh is not for --lora-rank: leave one of them out")
    words = read_verdicts(options.job.model.model) if options.refresh else None
    settings: dict[str, Any] = {
        name: getattr(options, name) for name in ("samples", "beta", "pairing", "hard")
    }
    settings["temperature"] = options.label_temperature

    def make(lab: LanguageLab, params: Params) -> OnlineMethod:
        judge = None if words is None else verdicts_of(lab, words)
        return osp(lab, judge=judge, **settings)

    rewarded = partial(judged_prefs, compare=compare)
    train_online(command, options, options.job, make, rewarded=rewarded)
