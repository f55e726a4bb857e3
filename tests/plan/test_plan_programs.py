"""The programs of every method: what they hold on a chip, and products against a count by hand."""

from dataclasses import replace
from functools import partial

import jax
import pytest

from rlhf_jax.losses import dpo_loss
from rlhf_jax.models import TransformerConfig
from rlhf_jax.models.flops import TokenRows, forward_flops
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.plan.cost import program_cost
from rlhf_jax.plan.estimate import held
from rlhf_jax.plan.flops import useful_flops
from rlhf_jax.plan.hlo import parse_module
from rlhf_jax.plan.programs import Pairs, Workload, workload_programs
from rlhf_jax.sharding import make_mesh

CONFIG = TransformerConfig(
    vocab_size=64,
    d_model=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=64,
    tied_embeddings=False,
)
# 2 (32 x 8 x (4 + 2 + 2 + 4) + 3 x 32 x 64) = 18,432 in matrices, 2 x 64 x 32 = 4,096 of words,
# 32 x (2 x 2 + 1) = 160 in norms
PARAMETERS = 18_432 + 4_096 + 160
DPO = Pairs(partial(dpo_loss, beta=0.1), sequence_logps, reference=True)
LENGTH = 16


def job(method, **more):
    return Workload(method, CONFIG, batch=8, prompt_length=8, answer_length=8, pairs=DPO, **more)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=4, model=2, devices=jax.devices())


def flops(program):
    text = program.lower().compile().as_text()
    return jax.device_count() * program_cost(parse_module(text)).flops


METHODS = {
    "sft": ["step"],
    "reward": ["step"],
    "pairs": ["step"],
    "grpo": ["draw", "score", "step"],
    "ppo": ["draw", "score", "step"],
    "sample": ["prefill", "decode"],
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_programs_and_their_useful_flops(mesh, method):
    asked = job(method, samples=2 if method in ("grpo", "sample") else 1)
    programs = workload_programs(asked, mesh)
    assert [program.name for program in programs] == METHODS[method]
    assert list(useful_flops(asked)) == METHODS[method]


def test_parameters_and_optimizer_of_a_chip_are_its_share(mesh):
    """An eighth, but for the norms, which only fsdp splits: 160 x (1/4 - 1/8) = 20 more."""
    parts = held(workload_programs(job("sft"), mesh)[0])
    share = 4 * (PARAMETERS / 8 + 20)
    assert parts["parameters"] == share
    # two moments; the optimizer's counters are a few numbers
    assert 2 * share <= parts["optimizer"] < 2 * share + 64


def test_what_lies_beside_a_program_is_counted(mesh):
    draw, score, step = (held(p) for p in workload_programs(job("ppo"), mesh))
    models = {"reference", "reward model"}
    assert models <= draw.keys() & score.keys() & step.keys()
    assert "critic" in draw
    assert step["parameters"] == score["parameters"] == draw["parameters"] + draw["critic"]


def test_a_mesh_or_a_batch_that_does_not_divide_is_named(mesh):
    eight = make_mesh(model=8, fsdp=1, devices=jax.devices())
    with pytest.raises(ValueError, match=r"kv_heads.* does not divide over 8 devices.*; .* does"):
        workload_programs(job("sft"), eight)
    with pytest.raises(ValueError, match="a batch of 6 does not divide over 4 devices"):
        workload_programs(job("sft")._replace(batch=6), mesh)


def test_useful_flops_golden_numbers():
    """One row of 16 tokens, 8 predicted: layers 2 x 18,432 x 16 = 589,824; attention
    4 x 32 x 2 layers x 16 x 17 / 2 pairs = 34,816; words 2 x 32 x 64 x 8 = 32,768."""
    row = 589_824 + 34_816 + 32_768
    assert forward_flops(CONFIG, TokenRows(1, 16, 8)) == row
    assert useful_flops(job("sft")) == {"step": 3 * 8 * row}
    assert useful_flops(job("pairs")) == {"step": 2 * 3 * 8 * row}
    assert useful_flops(job("reward")) == {"step": 2 * 3 * 8 * (row - 32_768)}
    # a window of 4 tokens: 4 x 5 / 2 + 12 x 4 = 58 pairs in a layer in place of 136
    local = replace(CONFIG, sliding_window=4, layer_windows=(True, False))
    assert forward_flops(local, TokenRows(1, 16, 8)) == row - 4 * 32 * (136 - 58)


@pytest.mark.long
@pytest.mark.parametrize(("method", "rows"), [("sft", 8), ("pairs", 16), ("grpo", 16)])
def test_products_of_a_step_are_the_count_by_hand(mesh, method, rows):
    """Forward and twice that backward, with attention over all pairs: L x L a layer."""
    samples = 2 if method == "grpo" else 1
    step = workload_programs(job(method, samples=samples), mesh)[-1]
    by_hand = 3 * forward_flops(CONFIG, TokenRows(rows, LENGTH, 8), pairs=2 * LENGTH**2)
    assert flops(step) == pytest.approx(by_hand, rel=0.02)


@pytest.mark.long
def test_remat_adds_the_layers_again_but_for_their_last_product(mesh):
    """The product into the residual stream, 64 x 32 a layer, is the input of nothing else."""
    remat = job("sft")._replace(config=replace(CONFIG, remat="nothing"))
    step = workload_programs(remat, mesh)[0]
    rows = TokenRows(8, LENGTH, 8)
    once = forward_flops(CONFIG, rows, pairs=2 * LENGTH**2)
    words = 2 * 32 * 64 * 8 * 8
    last = 2 * 2 * 64 * 32 * LENGTH * 8
    assert flops(step) == pytest.approx(4 * once - words - last, rel=0.02)


@pytest.mark.long
def test_products_of_sampling_are_the_count_by_hand(mesh):
    """On CPU, attention to the slots of a cache is no product but multiplications and a sum."""
    asked = job("sample", samples=2)
    prefill, decode = workload_programs(asked, mesh)
    prompts = forward_flops(CONFIG, TokenRows(8, 8), pairs=2 * 8**2)
    assert flops(prefill) == pytest.approx(prompts, rel=0.02)
    matrices = 16 * forward_flops(CONFIG, TokenRows(1, 1, 1), pairs=0)
    assert flops(decode) == pytest.approx(matrices, rel=0.02)
    slots = 16 * 4 * CONFIG.num_heads * CONFIG.head_dim * CONFIG.num_layers * LENGTH
    assert useful_flops(asked)["decode"] == matrices + slots


@pytest.mark.long
def test_drawing_counts_a_step_for_each_token_of_an_answer(mesh):
    """8 steps read 16 rows."""
    draw = workload_programs(job("grpo", samples=2), mesh)[0]
    prompts = forward_flops(CONFIG, TokenRows(8, 8), pairs=2 * 8**2)
    tokens = 8 * 16 * forward_flops(CONFIG, TokenRows(1, 1, 1), pairs=0)
    assert flops(draw) == pytest.approx(prompts + tokens, rel=0.02)
