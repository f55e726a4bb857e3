"""Labels turned round by the vote of briefly trained models (secrets_rm)."""

import jax.numpy as jnp
import numpy as np

from experiments.shop_rewards.kinds.heads import fit_head, fitted_head, head, head_scores
from experiments.shop_rewards.kinds.scoring import Fitted, answers_of, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.ops.ensembles import preference_strengths
from rlhf_jax.recipes import repaired_columns
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params


def fit_repaired(job: Run, tools: Tools, part: Part) -> Fitted:
    """A new model on the repaired labels; the members of `ensembles` are the voters."""
    config = tools.config.kind
    voters = [head(job, tools, part, number) for number in range(config.members)]

    def work(stage: Stage) -> tuple[Params, dict]:
        records = answers_of(part.pairs)
        both = np.stack([head_scores(tools, one.arrays, records) for one in voters])
        halves = (jnp.asarray(x) for x in np.split(both, 2, axis=-1))
        strengths = np.asarray(preference_strengths(*halves).means)
        columns = repaired_columns(strengths, "flip", share=config.repaired, label_smoothing=0.5)
        turned = columns["prefs"] < 0.5
        wrong = np.array([row["wrong"] for row in part.pairs])
        info = {
            "turned": int(turned.sum()),
            "rightly turned": int(wrong[turned].sum()),
        }
        return fit_head(stage, tools, part, part.pairs, columns=columns), info

    found = trained(job, tools, f"{part.name}_repaired", work, tools.lab.reward.init)
    seconds = found.seconds + sum(one.seconds for one in voters)
    return fitted_head(tools, "repaired labels", found.arrays, seconds, **found.info)
