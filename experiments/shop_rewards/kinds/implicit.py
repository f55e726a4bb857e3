"""The reward that a policy trained on the pairs implies, beta log(pi / pi_ref)."""

from functools import cache, partial

from experiments.shop_rewards.kinds.heads import PLAIN, rows_of
from experiments.shop_rewards.kinds.scoring import Fitted, Scored, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.recipes import model_reward, preference, reference_logps
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import PairLoss, Params


@cache
def loss_of(beta: float) -> PairLoss:
    """One loss of a beta, so that its update compiles once."""
    return partial(dpo_loss, beta=beta)


def fit_implicit(job: Run, tools: Tools, part: Part) -> Fitted:
    """DPO on the pairs."""
    training = tools.config.training

    def work(stage: Stage) -> tuple[Params, dict]:
        size = training.batch_size
        reference = reference_logps(part.lab, tools.sft, part.pairs, batch_size=size)
        rows = rows_of(tools, part, part.pairs, reference=reference)
        loss = loss_of(training.beta)
        return preference(stage, part.lab, rows, tools.sft, tools.direct, loss=loss), {}

    found = trained(job, tools, f"{part.name}_implicit", work, tools.lab.policy.init)
    params = {"policy": found.arrays, "reference": tools.sft}
    score = tools.judged.scores
    return Fitted(
        lambda rows: Scored({"implicit": scored(lambda _, x: score(params, x), tools.lab, rows)}),
        {"implicit": partial(model_reward, tools.judged, params, PLAIN)},
        found.seconds,
    )
