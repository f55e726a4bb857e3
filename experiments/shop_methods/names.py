"""The methods by name, in their leagues."""

# In the order in which they run, within what is trained with all seeds and what is not.
OFFLINE = (
    *("sft", "dpo", "ipo", "simpo", "kto", "pro"),
    *("soft_dpo", "orpo", "bco", "r_dpo", "cdpo", "cpo", "apo_zero", "robust_dpo"),
)
ONLINE = (
    *("raft", "rloo", "grpo", "ppo", "online_dpo", "osp", "osp_hard"),
    *("p3o", "pf_ppo_worst", "superhf", "dr_grpo", "dapo", "gspo", "reinforce", "explore"),
    *("cispo", "raft_global", "pf_ppo_random"),
)
# From the base model, without SFT before it.
DIRECT = ("direct_rl",)
METHODS = OFFLINE + ONLINE + DIRECT
# With all seeds; the others are trained once.
SEVERAL = (
    *("sft", "dpo", "ipo", "simpo", "kto", "pro"),
    *("raft", "rloo", "grpo", "ppo", "online_dpo", "osp", "osp_hard", "direct_rl"),
)
# With a critic; reading answers one by one.
CRITICS = ("ppo", "pf_ppo_worst", "pf_ppo_random", "direct_rl")
SINGLE = ("kto", "bco", "apo_zero")
# Changes of the reward that a method should not see, and what must fail them.
POWER, SHIFT = "power", "shift"
CHANGES = {"raft": (POWER,), "p3o": (SHIFT,)}
CHANGED = "ppo"
# What maximises a likelihood of given answers, which takes higher rates.
LIKELIHOOD = ("sft", "pro", "orpo")
# Methods by the rate that `--tune` chose; the others have the middle of their sweep.
CHOSEN = {
    0.00007: ("simpo", "p3o", "dr_grpo"),
    0.0002: (
        *("dpo", "kto", "soft_dpo", "bco", "r_dpo"),
        *("raft", "rloo", "grpo", "ppo", "online_dpo", "pf_ppo_worst", "superhf"),
    ),
    0.0006: ("ipo", "pro", "orpo", "osp", "osp_hard"),
    0.0018: ("sft",),
}
