"""Transformers as pure functions. The only folder that imports Flax."""

from rlhf_jax.models.config import MoEConfig as MoEConfig
from rlhf_jax.models.config import RopeScaling as RopeScaling
from rlhf_jax.models.config import TransformerConfig as TransformerConfig
from rlhf_jax.models.heads import ScalarModel as ScalarModel
from rlhf_jax.models.heads import ScalarParts as ScalarParts
from rlhf_jax.models.heads import make_reward_model as make_reward_model
from rlhf_jax.models.heads import make_reward_parts as make_reward_parts
from rlhf_jax.models.heads import make_scalar_model as make_scalar_model
from rlhf_jax.models.heads import make_value_model as make_value_model
from rlhf_jax.models.lora import LoRA as LoRA
from rlhf_jax.models.lora import LoRAConfig as LoRAConfig
from rlhf_jax.models.lora import adapt as adapt
from rlhf_jax.models.lora import hold as hold
from rlhf_jax.models.lora import is_matrix as is_matrix
from rlhf_jax.models.lora import make_lora as make_lora
from rlhf_jax.models.lora import read as read
from rlhf_jax.models.transformer import Transformer as Transformer
from rlhf_jax.models.transformer import make_transformer as make_transformer
