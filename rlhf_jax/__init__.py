"""Reinforcement learning from human feedback in JAX, from tables to TPU pods.

    losses    objectives of pairs, answers, steps    ops       masks, KL, returns, advantages
    policies  a table, a linear map, a transformer   models    transformers, the only Flax
    algos     update rules, games, planners          sampling  decoding, episodes
    feedback  teachers and queries                   rewards   judges
    envs      worlds                                 exact     closed forms and solvers
    training  loop, stages, checkpoints              data      tokens, padding, records

Each is imported by its own name. This page is light and knows no model: the records that cross a
border, the modules `losses` and `ops`, the ten losses that are used most, and the certificate that
a loss survives padding, packing and accumulation.

    from rlhf_jax import PreferenceBatch, certify, dpo_loss
    from rlhf_jax.losses import cdpo_loss
    from rlhf_jax.ops import gae
"""

from rlhf_jax import losses as losses
from rlhf_jax import ops as ops
from rlhf_jax.certify import Certificate as Certificate
from rlhf_jax.certify import Deviation as Deviation
from rlhf_jax.certify import certify as certify
from rlhf_jax.losses import bradley_terry_loss as bradley_terry_loss
from rlhf_jax.losses import dpo_loss as dpo_loss
from rlhf_jax.losses import grpo_loss as grpo_loss
from rlhf_jax.losses import gspo_loss as gspo_loss
from rlhf_jax.losses import ipo_loss as ipo_loss
from rlhf_jax.losses import kto_loss as kto_loss
from rlhf_jax.losses import ppo_clip_loss as ppo_clip_loss
from rlhf_jax.losses import rloo_loss as rloo_loss
from rlhf_jax.losses import sft_loss as sft_loss
from rlhf_jax.losses import simpo_loss as simpo_loss
from rlhf_jax.types import Policy as Policy
from rlhf_jax.types import PreferenceBatch as PreferenceBatch
from rlhf_jax.types import PreferenceFn as PreferenceFn
from rlhf_jax.types import Prompts as Prompts
from rlhf_jax.types import RewardFn as RewardFn
from rlhf_jax.types import TrainState as TrainState
from rlhf_jax.types import Trajectory as Trajectory
from rlhf_jax.types import ValueFn as ValueFn

__version__ = "0.1.0"
