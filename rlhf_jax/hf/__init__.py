"""Models of Hugging Face in and out: a folder becomes a `Pretrained`, and back.

    family             model_type
    Llama 2, 3         llama
    Mistral            mistral
    Qwen 2, 2.5        qwen2

Every entry of config.json is used, known to be harmless, or refused by name; pickles are never
loaded.
"""

from rlhf_jax.hf.config import read_config as read_config
from rlhf_jax.hf.families import FAMILIES as FAMILIES
from rlhf_jax.hf.peft import read_adapter as read_adapter
from rlhf_jax.hf.peft import save_adapter as save_adapter
from rlhf_jax.hf.pretrained import Pretrained as Pretrained
from rlhf_jax.hf.pretrained import load_model as load_model
from rlhf_jax.hf.pretrained import load_reward as load_reward
from rlhf_jax.hf.pretrained import read_params as read_params
from rlhf_jax.hf.pretrained import read_reward as read_reward
from rlhf_jax.hf.pretrained import save_model as save_model
