"""The FLOPs that a method needs: `models.flops` forward, and twice that backward.

What a program computes beyond these is recomputation (`remat`, log-probs in chunks), masked
attention, and padding of experts.
"""

from rlhf_jax.models.flops import TokenRows, forward_flops
from rlhf_jax.plan.programs import Workload


def useful_flops(job: Workload) -> dict[str, float | int]:
    """Name of a program -> the FLOPs that it needs, on all chips together."""
    config, length = job.config, job.prompt_length + job.answer_length
    answers = job.batch * job.samples
    policy = forward_flops(config, TokenRows(1, length, job.answer_length))
    scalar = forward_flops(config, TokenRows(1, length))  # a head of scalars is next to nothing
    prompts = job.batch * forward_flops(config, TokenRows(1, job.prompt_length))
    answered = answers * (policy - forward_flops(config, TokenRows(1, job.prompt_length)))
    if job.method == "sample":
        token = forward_flops(config, TokenRows(1, 1, 1), pairs=config.num_layers * length)
        return {"prefill": prompts, "decode": answers * token}
    if job.method in ("ppo", "grpo"):
        critic = scalar if job.method == "ppo" else 0.0
        return {
            "draw": prompts + answered,
            "score": answers * (policy + scalar + critic),
            "step": 3 * answers * (policy + critic),
        }
    step = {"sft": policy, "pairs": 2 * policy, "reward": 2 * scalar}[job.method]
    return {"step": 3 * job.batch * step}
