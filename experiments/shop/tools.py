"""What every stage of the shop job works with."""

from pathlib import Path
from typing import NamedTuple

from experiments.shop.config import Config
from rlhf_jax.labs.shop import gold_teacher, shop_lab, shop_task
from rlhf_jax.recipes import LanguageLab, Task, implicit_lab
from rlhf_jax.recipes.lab import check_batches
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.types import Params


class Tools(NamedTuple):
    """The run's config, task and lab, whose compiled functions all stages share.

    lab: its reward is a scalar head. judged: the same, its reward implied by two policies.
    """

    config: Config
    task: Task
    lab: LanguageLab
    judged: LanguageLab


class Trained(NamedTuple):
    """What later methods start from: the SFT policy, the reward model and its scale on the
    held-out pairs of SFT answers, and the first critic."""

    sft: Params
    reward: Params
    scale: ScoreScale
    critic: Params


def make_tools(config: Config, folder: Path) -> Tools:
    """Nothing is compiled before it is called; UserError for sizes that the devices can't share."""
    sizes = {"seed": config.seed, "model_parallel": config.model_parallel}
    lab = shop_lab(config.size, folder, **sizes)
    check_batches(lab, config)
    pairs = config.pairs
    teacher = gold_teacher(config.seed, beta=pairs.teacher_beta, tie_gap=pairs.tie_gap)
    task = shop_task(config.seed, teacher=teacher)
    implied = {"beta": config.dpo.beta, "ref_weight": config.reward.ref_weight}
    return Tools(config, task, lab, implicit_lab(lab, **implied))
