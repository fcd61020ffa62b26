"""The phases of configs/cifar10.py, compiled for cards that are not there.

About two minutes, and only where the extra `gpu-aot` is installed. What is left to benchmarks/gpu_aot.py: the other
convolutions, other chunk sizes, and every phase of the single cards.
"""

import pytest

from benchmarks import gpu_aot
from benchmarks.hlo_bytes import accessed, kernels
from configs import cifar10
from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.preview import cards, compiled, dry_run
from scarlet_jax.preview.compiled import compile_phase

needs_compiler = pytest.mark.skipif(cards.problem() is not None, reason=f"{cards.problem()}")

# Collectives a phase, as DESIGN's section on scale has it: with everyone taking part no model moves; the rows that the
# server averages, and the batch scores of its evaluation, are gathered (XLA joins all gathers of a phase into one).
COLLECTIVES = {"train resnet20": {}, "server": {"all-gather": 1}, "evaluate server": {"all-gather": 1}}


@pytest.mark.parametrize(("text", "card", "count"), [("H100", "H100", 1), ("A100x8", "A100", 8), ("H200x1", "H200", 1)])
def test_a_text_is_a_card_and_a_number(text, card, count):
    assert cards.parse(text) == (card, count)


@pytest.mark.parametrize("text", ["", "H100x0", "H100x65", "h100", "V100", "H100x", "x8", "H100 x8"])
def test_another_text_is_refused_with_what_there_is(text):
    with pytest.raises(UserError, match="A100, H100, H200"):
        cards.parse(text)


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(cards, "problem", lambda: "it needs the extra gpu-aot")
    with pytest.raises(UserError, match="H100x3.*gpu-aot"):
        cards.described_mesh("H100x3")


@needs_compiler
@pytest.mark.parametrize(
    ("target", "phases"),
    [("H100", ["train resnet20", "server"]), ("H100x8", list(COLLECTIVES)), ("A100", ["train resnet20"])],
)
def test_phases_compile_for_a_card(target, phases):
    plan = dry_run.prepare(cifar10.get_config(), target)
    calls = {call.name: call for call in plan.shapes.calls}
    for name in phases:
        program = compile_phase(calls[name])
        assert program.calls and all(call.startswith(("__cudnn$", "__cublas$")) for call in program.calls), name
        assert set(program.windows) <= {"3x3"}, "no weight gradient with the image as its window"
        assert program.collectives == (COLLECTIVES[name] if target == "H100x8" else {}), name
        most, _ = compiled.peak(plan.shapes.resident, [program])
        assert most < cards.CARDS[cards.parse(target)[0]].memory, name


@needs_compiler
@pytest.mark.skipif(primitive.problem() is not None, reason=f"{primitive.problem()}")
def test_the_triton_form_moves_less_and_launches_less():
    """A step of 100 clients in bfloat16: at most 6 MB a sample and 250 kernels, and no call of cuDNN."""
    program = gpu_aot.training_step("H100", "triton", "bfloat16", False, 100)
    assert accessed(program.text) / (100 * gpu_aot.BATCH) < 6e6
    assert kernels(program.text) <= 250
    assert program.calls["triton_kernel_call"] == 19 + 19 + 18  # forward, both gradients; images need none
    assert not any("cudnn" in call for call in program.calls)
