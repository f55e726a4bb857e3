"""TRL's other offline trainers: CPO, SimPO, AlphaPO, ORPO, TPO, SFT, KTO and the reward model."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from trl import (
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.experimental.tpo import TPOConfig, TPOTrainer

from benchmarks.parity import torch_table
from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Run
from benchmarks.parity.draw import PAIRS
from benchmarks.parity.table_policy import (
    Answers,
    answers,
    pair_answers,
    pooled_nll,
    prompt_answers,
)
from rlhf_jax.losses import preference as losses
from rlhf_jax.losses import reward

BETA, SMOOTHING, GAMMA = 0.8, 0.1, 0.6
ZEROS = jnp.zeros(PAIRS)
PairLoss = Callable[[Answers, Answers], jax.Array]


def run(trainer: type, config: type, columns: dict, model=torch_table.TableLM, **options) -> Run:
    """A trainer, constructed for real, on text."""
    weights = load("weights")
    table = weights.reward if model is torch_table.TableScorer else weights.policy
    anchor = {"ref_model": torch_table.table_model(weights.reference)}
    built = trainer(
        model=torch_table.table_model(table, model),
        args=torch_table.arguments(config, **options),
        train_dataset=torch_table.dataset(**columns),
        processing_class=torch_table.tokenizer(),
        **(anchor if trainer is KTOTrainer else {}),
    )
    return torch_table.run_trainer(built)


def objective(name: str, source: str, peer: Callable[[], Run], loss, note: str) -> Objective:
    """One row whose loss reads the policy's table."""
    return Objective(name, f"TRL {source}", peer, loss, load("weights").policy, note)


def pairwise(trainer: type, config: type, name: str, options: dict, loss: PairLoss, note: str):
    """One row of a trainer on pairs without a reference, plus its NLL of gold or chosen."""
    columns = torch_table.columns("chosen", "rejected")
    if trainer is TPOTrainer:
        columns["reference"] = torch_table.columns("gold")["gold"]
    return objective(
        name,
        trainer.__name__,
        lambda: run(trainer, config, columns, beta=BETA, **options),
        lambda params: jnp.mean(
            loss(pair_answers(params, "chosen"), pair_answers(params, "rejected"))
        ),
        note,
    )


def simpo(chosen: Answers, rejected: Answers, **options) -> jax.Array:
    """SimPO; TRL divides gamma by beta and multiplies it back."""
    return losses.simpo_loss(chosen.means, rejected.means, beta=BETA, gamma=GAMMA, **options)


def cpo_rows() -> list[Objective]:
    """CPO trainer: its loss types, AlphaPO, smoothing and the NLL term."""
    plain, smoothed = {"cpo_alpha": 0.0}, {"label_smoothing": SMOOTHING}
    simpo_options = {"loss_type": "simpo", "simpo_gamma": GAMMA}
    table: list[tuple[str, dict, PairLoss, str]] = [
        ("CPO", plain, lambda c, r: losses.cpo_loss(c.logps, r.logps, beta=BETA), "cpo_loss"),
        (
            "CPO, smoothed, with NLL",
            smoothed | {"cpo_alpha": 0.7},
            lambda c, r: (
                losses.cpo_loss(c.logps, r.logps, beta=BETA, **smoothed) + 0.7 * pooled_nll(c)
            ),
            "cpo_loss and sft_loss of the chosen answers, their tokens pooled",
        ),
        (
            "CPO, hinge",
            plain | {"loss_type": "hinge"},
            lambda c, r: losses.hinge_dpo_loss(c.logps, r.logps, ZEROS, ZEROS, beta=BETA),
            "hinge_dpo_loss with a reference of zeros",
        ),
        (
            "CPO, ipo",
            plain | {"loss_type": "ipo"},
            lambda c, r: losses.ipo_loss(c.means, r.means, ZEROS, ZEROS, beta=BETA),
            "ipo_loss of per-token means with a reference of zeros",
        ),
        ("SimPO", plain | simpo_options, simpo, "simpo_loss"),
        (
            "SimPO, smoothed",
            plain | simpo_options | smoothed,
            lambda c, r: simpo(c, r, **smoothed),
            "simpo_loss",
        ),
        (
            "AlphaPO",
            plain | simpo_options | {"alpha": 0.25},
            lambda c, r: losses.alpha_po_loss(c.means, r.means, beta=BETA, gamma=GAMMA, alpha=0.25),
            "alpha_po_loss",
        ),
    ]
    return [pairwise(CPOTrainer, CPOConfig, *row) for row in table]


def orpo_rows() -> list[Objective]:
    """ORPO, and TPO whose supervised term reads a third answer."""
    smoothed = {"label_smoothing": SMOOTHING}

    def orpo(params):
        chosen, rejected = pair_answers(params, "chosen"), pair_answers(params, "rejected")
        odds = losses.odds_ratio_loss(chosen.means, rejected.means)
        return pooled_nll(prompt_answers(params), chosen) + BETA * jnp.mean(odds)

    def tpo(params):
        chosen, rejected = pair_answers(params, "chosen"), pair_answers(params, "rejected")
        contrast = losses.cpo_loss(chosen.logps, rejected.logps, beta=BETA, **smoothed)
        return jnp.mean(contrast) + 0.7 * pooled_nll(pair_answers(params, "gold"))

    text = torch_table.columns("chosen", "rejected")
    answered = {"prompt": text["prompt"], "completion": text["chosen"]}
    gold = text | {"reference": torch_table.columns("gold")["gold"]}
    options = {"beta": BETA, "tpo_alpha": 0.7, "loss_type": "sigmoid"} | smoothed
    pooled = "odds_ratio_loss; sft_loss of prompt and chosen answer, their tokens pooled"
    return [
        objective(
            "ORPO",
            "ORPOTrainer",
            lambda: run(ORPOTrainer, ORPOConfig, text, beta=BETA),
            orpo,
            pooled,
        ),
        objective(
            "TPO",
            "TPOTrainer",
            lambda: run(TPOTrainer, TPOConfig, gold, **options),
            tpo,
            "cpo_loss, and sft_loss of a third answer",
        ),
        pairwise(
            TPOTrainer,
            TPOConfig,
            "TPO-L",
            {"tpo_alpha": 0.0, "loss_type": "tpo-l", "tpo_l_gamma": GAMMA},
            simpo,
            "simpo_loss",
        ),
        objective(
            "SFT",
            "SFTTrainer",
            lambda: run(SFTTrainer, SFTConfig, answered),
            lambda params: pooled_nll(pair_answers(params, "chosen")),
            "sft_loss, the tokens of the batch pooled",
        ),
    ]


def kto_rows() -> list[Objective]:
    """KTO and APO-zero on single answers with a label."""
    pairs, reference = load("pairs"), load("weights").reference
    text = torch_table.columns("chosen")
    labelled = {"prompt": text["prompt"], "completion": text["chosen"]}
    labelled |= {"label": pairs.desirable.tolist()}
    anchor = pair_answers(reference, "chosen").logps
    rolled = [np.roll(x, 1, axis=0) for x in (pairs.chosen_ids, pairs.chosen_mask)]
    weights = {"desirable_weight": 1.0, "undesirable_weight": 0.7}

    def mismatched(params):  # TRL pairs each prompt with the answer of the row before it
        return answers(params, pairs.prompt_ids, *rolled).logps

    def kto(params, **options):
        kl = losses.kto_kl(mismatched(params), mismatched(reference))
        logps = pair_answers(params, "chosen").logps
        return jnp.mean(
            losses.kto_loss(logps, anchor, pairs.desirable, kl=kl, beta=BETA, **options)
        )

    def apo(params):
        logps = pair_answers(params, "chosen").logps
        return jnp.mean(losses.apo_zero_unpaired_loss(logps, anchor, pairs.desirable, beta=BETA))

    def peer(loss_type, **options):
        options |= {"beta": BETA, "per_device_train_batch_size": PAIRS}
        return run(KTOTrainer, KTOConfig, labelled, loss_type=loss_type, **options)

    return [
        objective("KTO", "KTOTrainer", lambda: peer("kto"), kto, "kto_loss, kto_kl"),
        objective(
            "KTO, weighted",
            "KTOTrainer",
            lambda: peer("kto", **weights),
            lambda params: kto(params, **weights),
            "kto_loss, kto_kl",
        ),
        objective(
            "APO-zero unpaired",
            "KTOTrainer",
            lambda: peer("apo_zero_unpaired"),
            apo,
            "apo_zero_unpaired_loss",
        ),
    ]


def reward_rows() -> list[Objective]:
    """Bradley-Terry reward model: margins and centring."""
    pairs = load("pairs")

    def scores(params, name):
        ids = jnp.concatenate([pairs.prompt_ids, getattr(pairs, f"{name}_ids")], axis=-1)
        mask = jnp.concatenate([pairs.prompt_mask, getattr(pairs, f"{name}_mask")], axis=-1)
        rewards = params[ids[:, :-1], ids[:, 1:]]
        return jnp.sum(jnp.where(mask[:, :-1] & mask[:, 1:], rewards, 0.0), axis=-1)

    def plain(chosen, rejected):
        return reward.bradley_terry_loss(chosen, rejected)

    def margin(chosen, rejected):
        return reward.margin_bradley_terry_loss(chosen, rejected, pairs.gaps)

    def centred(chosen, rejected):
        return margin(chosen, rejected) + 0.1 * reward.centring_penalty(chosen, rejected)

    text = torch_table.columns("chosen", "rejected")
    gaps = text | {"margin": pairs.gaps.tolist()}
    table = [
        ("Bradley-Terry", text, {}, plain, "bradley_terry_loss"),
        ("Bradley-Terry, margin", gaps, {}, margin, "margin_bradley_terry_loss"),
        (
            "Bradley-Terry, margin, centred",
            gaps,
            {"center_rewards_coefficient": 0.1},
            centred,
            "margin_bradley_terry_loss, centring_penalty",
        ),
    ]
    return [
        Objective(
            name,
            "TRL RewardTrainer",
            lambda columns=columns, options=options: run(
                RewardTrainer, RewardConfig, columns, torch_table.TableScorer, **options
            ),
            lambda params, loss=loss: jnp.mean(
                loss(scores(params, "chosen"), scores(params, "rejected"))
            ),
            load("weights").reward,
            note,
        )
        for name, columns, options, loss, note in table
    ]


def objectives() -> list[Objective]:
    """All rows of these trainers."""
    return cpo_rows() + orpo_rows() + kto_rows() + reward_rows()
