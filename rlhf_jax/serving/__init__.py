"""A model behind HTTP: an engine that decodes requests together, and OpenAI's interface to it.

    programs    compiled functions, in a few static shapes
    engine      a queue, and rows that join and leave between chunks of tokens
    texts       ids as text that can be shown, stop strings
    requests    JSON -> `Wanted`, or `BadRequest`
    replies     answers -> JSON
    app, server routes, limits and the socket; these two need the extra `serve`

The engine alone, without HTTP:

>>> import jax
>>> from rlhf_jax.models import TransformerConfig, make_transformer
>>> size = dict(d_model=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=8, d_ff=8)
>>> model = make_transformer(TransformerConfig(vocab_size=9, **size))
>>> params = model.init(jax.random.key(0))
>>> engine = make_engine(model, params, stop_ids=(2,), longest=64)
>>> pieces = []
>>> engine.submit(Job(Ask(prompt=(1, 5), max_tokens=4, temperature=0.0), pieces.append))
>>> while engine.step():
...     pass
>>> pieces[-1].tokens.ids, pieces[-1].finish
([5, 5, 5, 5], 'length')
"""

from rlhf_jax.serving.engine import Ask as Ask
from rlhf_jax.serving.engine import Engine as Engine
from rlhf_jax.serving.engine import Job as Job
from rlhf_jax.serving.engine import Piece as Piece
from rlhf_jax.serving.engine import make_engine as make_engine
from rlhf_jax.serving.requests import Reads as Reads
from rlhf_jax.serving.served import Served as Served
