"""PyTorch on a GPU, as part of benchmarks/gpu.py; without PyTorch, or without a GPU for it, nothing is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

BATCH, MODELS = 50, 25


def measure(part: Any) -> None:
    """Training samples/s: eager and CUDA graph of one ResNet-20, in both precisions; `torch.func.vmap` of 25."""
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    from torch.nn import functional

    from benchmarks import torch_peer

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    x = torch.randn(BATCH, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), device="cuda")
    for dtype in ("bfloat16", "tf32"):
        model = torch_peer.resnet20().cuda().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def gradient(model: Any = model, dtype: str = dtype) -> None:
            with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = functional.cross_entropy(model(x), y)
            loss.backward()

        def step(optimizer: Any = optimizer, gradient: Callable[[], None] = gradient) -> None:
            optimizer.zero_grad(set_to_none=True)
            gradient()
            optimizer.step()

        with part.alone():
            part.write(**{f"eager {dtype}": _rate(step, 40, BATCH)})
            part.write(**{f"graph {dtype}": _rate(_graph(step, gradient, optimizer), 200, BATCH)})
    with part.alone():
        part.write(**{"vmap tf32": _rate(_stacked(), 10, BATCH * MODELS)})


def _rate(work: Callable[[], Any], calls: int, samples: int) -> float:
    """Samples/s: the median of three rows of calls, after some that are not counted."""
    import torch

    for _ in range(5):
        work()
    rates = []
    for _ in range(3):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        rates.append(calls * samples / (time.perf_counter() - begun))
    return statistics.median(rates)


def _graph(step: Callable[[], None], gradient: Callable[[], None], optimizer: Any) -> Callable[[], Any]:
    """A step as a CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        gradient()
        optimizer.step()
    return graph.replay


def _stacked() -> Callable[[], Any]:
    """A step of 25 models by `torch.func.vmap`, without running statistics, which it does not allow."""
    import torch
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap
    from torch.nn import functional

    from benchmarks import torch_peer

    models = [torch_peer.resnet20().cuda() for _ in range(MODELS)]
    for module in (module for model in models for module in model.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    parameters, buffers = stack_module_state(models)
    x = torch.randn(MODELS, BATCH, 3, 32, 32, device="cuda")
    y = torch.randint(0, 10, (MODELS, BATCH), device="cuda")

    def loss(parameters: Any, buffers: Any, x: Any, y: Any) -> Any:
        return functional.cross_entropy(functional_call(models[0], (parameters, buffers), (x,)), y)

    gradients = vmap(grad_and_value(loss))

    def step() -> None:
        found, _ = gradients(parameters, buffers, x, y)
        with torch.no_grad():
            for name in parameters:
                parameters[name].sub_(1e-3 * found[name])

    return step
