"""Models of Hugging Face in and out: a folder becomes a `Pretrained`, and back.

    family               model_type
    Llama 2, 3           llama
    Mistral, Mixtral     mistral, mixtral
    Qwen 2, 2.5, 3       qwen2, qwen3, qwen3_moe
    Gemma 1, 2, 3 text   gemma, gemma2, gemma3_text
    OLMo 2               olmo2
    GPT-2                gpt2

>>> import jax, tempfile
>>> from rlhf_jax.models import TransformerConfig, make_transformer
>>> size = dict(d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8)
>>> config = TransformerConfig(vocab_size=9, **size)
>>> params = make_transformer(config).init(jax.random.key(0))
>>> folder = tempfile.mkdtemp()
>>> save_model(folder, Pretrained(config, params))
>>> model = load_model(folder)
>>> model.config == config, model.params["trunk"]["embed"].shape
(True, (9, 8))

Every entry of config.json is used, known to be harmless, or refused by name; pickles are never
loaded.
"""

from rlhf_jax.hf.config import read_config as read_config
from rlhf_jax.hf.families import FAMILIES as FAMILIES
from rlhf_jax.hf.merging import add_changes as add_changes
from rlhf_jax.hf.merging import mean_model as mean_model
from rlhf_jax.hf.peft import read_adapter as read_adapter
from rlhf_jax.hf.peft import save_adapter as save_adapter
from rlhf_jax.hf.pretrained import Pretrained as Pretrained
from rlhf_jax.hf.pretrained import load_any as load_any
from rlhf_jax.hf.pretrained import load_model as load_model
from rlhf_jax.hf.pretrained import load_reward as load_reward
from rlhf_jax.hf.pretrained import random_model as random_model
from rlhf_jax.hf.pretrained import read_params as read_params
from rlhf_jax.hf.pretrained import read_reward as read_reward
from rlhf_jax.hf.pretrained import save_model as save_model
