"""TRL's other offline trainers: CPO, SimPO, ORPO, TPO, SFT, DFT, KTO and the reward model."""

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
from benchmarks.parity.batches import load, sequence
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
from rlhf_jax.ops import masking

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


def orpo(params: jax.Array) -> jax.Array:
    """ORPO with the supervised term of TRL, which reads the prompt too."""
    chosen, rejected = pair_answers(params, "chosen"), pair_answers(params, "rejected")
    odds = losses.odds_ratio_loss(chosen.means, rejected.means)
    return pooled_nll(prompt_answers(params), chosen) + BETA * jnp.mean(odds)


def tpo(params: jax.Array) -> jax.Array:
    """CPO with the supervised term of a third answer."""
    logps = (pair_answers(params, name).logps for name in ("chosen", "rejected"))
    contrast = losses.cpo_loss(*logps, beta=BETA, label_smoothing=SMOOTHING)
    return jnp.mean(contrast) + 0.7 * pooled_nll(pair_answers(params, "gold"))


def dft(params: jax.Array) -> jax.Array:
    """DFT, the tokens of the batch pooled."""
    chosen = pair_answers(params, "chosen")
    return masking.token_mean(losses.dft_loss(chosen.token_logps), chosen.mask).value()


def orpo_rows() -> list[Objective]:
    """ORPO, TPO whose supervised term reads a third answer, SFT and DFT."""
    text = torch_table.columns("chosen", "rejected")
    answered = {"prompt": text["prompt"], "completion": text["chosen"]}
    gold = text | {"reference": torch_table.columns("gold")["gold"]}
    options = {"beta": BETA, "tpo_alpha": 0.7, "label_smoothing": SMOOTHING}
    short = {"tpo_alpha": 0.0, "loss_type": "tpo-l", "tpo_l_gamma": GAMMA}
    return [
        objective(
            "ORPO",
            "ORPOTrainer",
            lambda: run(ORPOTrainer, ORPOConfig, text, beta=BETA),
            orpo,
            "odds_ratio_loss; sft_loss of prompt and chosen answer, their tokens pooled",
        ),
        objective(
            "TPO",
            "TPOTrainer",
            lambda: run(TPOTrainer, TPOConfig, gold, loss_type="sigmoid", **options),
            tpo,
            "cpo_loss, and sft_loss of a third answer",
        ),
        pairwise(TPOTrainer, TPOConfig, "TPO-L", short, simpo, "simpo_loss"),
        objective(
            "SFT",
            "SFTTrainer",
            lambda: run(SFTTrainer, SFTConfig, answered),
            lambda params: pooled_nll(pair_answers(params, "chosen")),
            "sft_loss, the tokens of the batch pooled",
        ),
        objective(
            "DFT",
            "SFTTrainer",
            lambda: run(SFTTrainer, SFTConfig, answered, loss_type="dft"),
            dft,
            "dft_loss, token_mean",
        ),
    ]


def mismatched(params: jax.Array) -> jax.Array:
    """Log-probs of the answer of the row before, which is what TRL estimates KTO's KL from."""
    pairs = load("pairs")
    rolled = [np.roll(x, 1, axis=0) for x in (pairs.chosen_ids, pairs.chosen_mask)]
    return answers(params, pairs.prompt_ids, *rolled).logps


def labelled(params: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-probs, reference log-probs and labels of single answers."""
    anchor = pair_answers(load("weights").reference, "chosen").logps
    return pair_answers(params, "chosen").logps, anchor, jnp.asarray(load("pairs").desirable)


def kto(params: jax.Array, **weights) -> jax.Array:
    """KTO with TRL's KL."""
    kl = losses.kto_kl(mismatched(params), mismatched(load("weights").reference))
    return jnp.mean(losses.kto_loss(*labelled(params), kl=kl, beta=BETA, **weights))


def apo(params: jax.Array) -> jax.Array:
    """APO-zero on single answers."""
    return jnp.mean(losses.apo_zero_unpaired_loss(*labelled(params), beta=BETA))


def run_kto(loss_type: str, **options) -> Run:
    """`KTOTrainer` on the chosen answers, half of which are labelled bad."""
    text = torch_table.columns("chosen")
    columns = {"prompt": text["prompt"], "completion": text["chosen"]}
    columns |= {"label": load("pairs").desirable.tolist()}
    options |= {"beta": BETA, "per_device_train_batch_size": PAIRS, "loss_type": loss_type}
    return run(KTOTrainer, KTOConfig, columns, **options)


def kto_rows() -> list[Objective]:
    """KTO and APO-zero on single answers with a label."""
    weights = {"desirable_weight": 1.0, "undesirable_weight": 0.7}
    return [
        objective("KTO", "KTOTrainer", lambda: run_kto("kto"), kto, "kto_loss, kto_kl"),
        objective(
            "KTO, weighted",
            "KTOTrainer",
            lambda: run_kto("kto", **weights),
            lambda params: kto(params, **weights),
            "kto_loss, kto_kl",
        ),
        objective(
            "APO-zero unpaired",
            "KTOTrainer",
            lambda: run_kto("apo_zero_unpaired"),
            apo,
            "apo_zero_unpaired_loss",
        ),
    ]


def scores(params: jax.Array, name: str) -> jax.Array:
    """Sum of the table's rewards over prompt and answer: what `TableScorer` returns."""
    pairs = load("pairs")
    ids = sequence(pairs.prompt_ids, getattr(pairs, f"{name}_ids"))
    mask = sequence(pairs.prompt_mask, getattr(pairs, f"{name}_mask"))
    rewards = params[ids[:, :-1], ids[:, 1:]]
    return jnp.sum(jnp.where(mask[:, :-1] & mask[:, 1:], rewards, 0.0), axis=-1)


def margin(chosen: jax.Array, rejected: jax.Array) -> jax.Array:
    """Bradley-Terry with the rater's gaps."""
    return reward.margin_bradley_terry_loss(chosen, rejected, jnp.asarray(load("pairs").gaps))


def centred(chosen: jax.Array, rejected: jax.Array) -> jax.Array:
    """The same with TRL's centring term."""
    return margin(chosen, rejected) + 0.1 * reward.centring_penalty(chosen, rejected)


def reward_rows() -> list[Objective]:
    """Bradley-Terry reward model: margins and centring."""
    text = torch_table.columns("chosen", "rejected")
    gaps = text | {"margin": load("pairs").gaps.tolist()}
    centring = {"center_rewards_coefficient": 0.1}
    plain, both = reward.bradley_terry_loss, "margin_bradley_terry_loss, centring_penalty"
    table = [
        ("Bradley-Terry", text, {}, plain, "bradley_terry_loss"),
        ("Bradley-Terry, margin", gaps, {}, margin, "margin_bradley_terry_loss"),
        ("Bradley-Terry, margin, centred", gaps, centring, centred, both),
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
