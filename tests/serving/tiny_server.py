"""A tiny random model with a tokenizer of bytes, its engine, and a server in a thread."""

import json
import threading
import time
from contextlib import contextmanager

from random_params import random_params

from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import standard_vocabulary, train_bpe_tokenizer
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.serving import Reads, Served, make_engine

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CONFIG = TransformerConfig(
    vocab_size=260, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
)
LONGEST = 200
MODEL = make_transformer(CONFIG)


def tiny_params():
    """Every weight drawn."""
    return random_params(MODEL.init)


def tiny_reads(longest=LONGEST):
    """A tokenizer of bytes, ids 4 to 259; "<bos>" is 1 and "<eos>" 2."""
    vocabulary = standard_vocabulary(train_bpe_tokenizer(["a b"], vocab_size=260))
    return Reads(vocabulary, ChatTemplate({"default": CHAT}), longest, CONFIG.vocab_size)


def tiny_engine(**options):
    """An engine of the tiny model."""
    chosen = {"stop_ids": (2,), "longest": LONGEST, "batch": 4} | options
    return make_engine(MODEL, tiny_params(), **chosen)


def ids_of(text):
    """<bos> and the bytes of an ASCII text, as the tokenizer reads them."""
    return (1, *tiny_reads().vocabulary.tokenizer.encode(text).ids)


def lengths(prompts, answers):
    """A score that is easy to check."""
    pairs = zip(prompts, answers, strict=True)
    return [float(len(prompt) - len(answer)) for prompt, answer in pairs]


@contextmanager
def served(**changes):
    """The address of a server that runs in a thread, and the `Served`."""
    from rlhf_jax.serving.server import listen, make_server, url_of

    found = Served("tiny", tiny_engine(), tiny_reads(), lengths)._replace(**changes)
    server = make_server(found)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield url_of(listening).removeprefix("http://"), found
        finally:
            server.should_exit = True
            thread.join()


def post(address, path, body, **headers):
    """(status, JSON) of a request."""
    import http.client

    connection = http.client.HTTPConnection(address, timeout=120)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json"} | headers)
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    return response.status, found


def eventually(holds):
    """Waits for something that another thread does."""
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")
