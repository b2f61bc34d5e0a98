"""Speed of the operators beside their floors: the time to move their bytes and to perform their operations.

Called by the suite of tools/analysis_tools/benchmark.py. The floor of an operator is the larger of two times: its
inputs and outputs, each moved once, at the rate of a copy; and its multiplications and additions at the rate of a large
matrix product of its dtype. Both rates are measured in the same run.

Symbols: B images, C channels, h×w map, D detections, P positions B·h·w.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmdet.ops import spatial_correlation_sample
from mmdet.ops.correlation import correlation_reference
from mmdet.ops.correlation.compiled_library import UNAVAILABLE, has_cuda
from mmdet.ops.deform_conv import deform_conv3x3
from mmdet.ops.group_norm import group_norm
from mmdet.ops.mask_logits import mask_logits
from mmdet.ops.prior_overlap import prior_overlap
from mmdet.ops.residual_norm import add_layer_norm
from tools.analysis_tools.measures.speed import Bench, set_tf32, tester

CORRELATION = dict(kernel_size=(1, 1), patch_size=(16, 16), stride=(1, 1), padding=(0, 0), dilation=(1, 1),
                   dilation_patch=(2, 2))  # those of CMaskTrack R-CNN's calibration


@dataclass
class Ceilings:
    """Rates of the device: bytes per second of a copy, and operations per second of a matrix product, by dtype."""

    bytes_per_second: float
    operations_per_second: dict[torch.dtype, float]

    @classmethod
    def measure(cls, bench: Bench, dtypes: Sequence[torch.dtype], copied: int, side: int) -> Ceilings:
        """Measure the copy of ``copied`` bytes and products of matrices (side, side), as rows of the table."""
        set_tf32(False)
        source = torch.empty(copied, dtype=torch.uint8, device=bench.device).fill_(1)
        target = torch.empty_like(source)
        milliseconds = bench.time(lambda: target.copy_(source), 'ceiling: copy', mib=copied // 2 ** 20)
        bench.rows[-1].update(bytes=2 * copied)
        rate, rates = 2000 * copied / milliseconds, {}
        for dtype in dtypes:
            a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
            milliseconds = bench.time(partial(torch.mm, a, b), 'ceiling: matrix product', side=side, dtype=_name(dtype))
            bench.rows[-1].update(operations=2 * side ** 3)
            rates[dtype] = 2000 * side ** 3 / milliseconds
        return cls(rate, rates)

    def floor(self, num_bytes: int, operations: int, dtype: torch.dtype) -> float:
        """Return the floor in milliseconds."""
        return 1000 * max(num_bytes / self.bytes_per_second, operations / self.operations_per_second[dtype])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix('torch.')


@torch.no_grad()
def bench_kernels(bench: Bench, cfg: Config, ceilings: Ceilings, frames: int, size: tuple[int, int],
                  dtype: torch.dtype) -> None:
    """Measure the operators of a MemCNP frame on the maps of a clip, and the network up to its raw outputs.

    Args:
        bench: collects the rows, in which ``bytes``, ``operations`` and ``floor_ms`` are added.
        cfg: config of the network.
        ceilings: rates of the device.
        frames: B.
        size: height and width of the network's input.
        dtype: dtype of maps and weights.
    """
    channels = cfg.model.bbox_head.in_channels
    h, w = size[0] // 8, size[1] // 8
    positions, detections, factor = frames * h * w, 10, 4

    def maps(*shape: int) -> Tensor:
        made = torch.randn(*shape, device=bench.device).to(dtype)
        return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made

    def measure(function: Callable[..., object], what: str, inputs: Sequence[Tensor], written: int,
                operations: int, **columns: object) -> None:
        bench.time(partial(function, *inputs), what, frames, frames=frames, map=f'{h}x{w}', dtype=_name(dtype),
                   **columns)
        moved = sum(tensor.numel() * tensor.element_size() for tensor in inputs) + written
        bench.rows[-1].update(bytes=moved, operations=operations, floor_ms=ceilings.floor(moved, operations, dtype))

    item = torch.empty((), dtype=dtype).element_size()
    x, groups = maps(frames, 2 * channels, h, w), 4
    measure(deform_conv3x3, 'deformable convolution',
            [x, torch.randn(frames, 18 * groups, h, w, device=bench.device), maps(channels, 2 * channels, 3, 3)],
            positions * channels * item, 2 * positions * 9 * 2 * channels * (channels + 4), channels=2 * channels)
    x = maps(frames, channels, h, w)
    measure(lambda x, weight, bias: group_norm(x, 32, weight, bias, relu=True), 'group norm, ReLU',
            [x, maps(channels), maps(channels)], x.numel() * item, 8 * x.numel(), channels=channels)
    pixels = positions * factor ** 2
    measure(lambda coarse, coefficients: mask_logits(coarse, coefficients, factor), 'mask logits',
            [x, maps(frames, detections, channels)], 4 * pixels * detections,
            pixels * channels * (2 * detections + 8), channels=channels, detections=detections)
    classes, candidates = cfg.model.bbox_head.num_classes, 200
    corners = torch.rand(frames, classes, candidates, 2, device=bench.device)
    boxes = torch.cat([corners, corners + torch.rand_like(corners)], dim=-1)
    measure(prior_overlap, 'overlaps, Fast NMS', [boxes], boxes.numel(), 8 * boxes.numel() * candidates,
            classes=classes, candidates=candidates)
    backbone = cfg.model.backbone
    heads, tokens = backbone.num_heads, (size[0] // 16) * (size[1] // 16)
    norm = torch.nn.LayerNorm(backbone.embed_dims, device=bench.device)
    residual = torch.randn(frames, tokens, backbone.embed_dims, device=bench.device)
    branch = maps(*residual.shape)
    measure(lambda residual, branch: add_layer_norm(residual, branch, norm), 'residual, layer norm', [residual, branch],
            residual.numel() * (4 + item), 8 * residual.numel(), tokens=tokens, channels=backbone.embed_dims)
    width = backbone.embed_dims // heads
    query, key, value = (maps(frames * heads, tokens, width).unflatten(0, (frames, heads)) for _ in range(3))
    measure(F.scaled_dot_product_attention, 'attention', [query, key, value], query.numel() * item,
            4 * frames * heads * tokens ** 2 * width, tokens=tokens)


@torch.no_grad()
def bench_network(bench: Bench, cfg: Config, ceilings: Ceilings, frames: int, size: tuple[int, int],
                  precision: str, dtype: torch.dtype) -> None:
    """Measure the network of the config, without selection and masks, beside the operations that PyTorch counts.

    The sampling of deformable convolutions, below 1 % of the operations, is not counted. Bytes: images and weights.
    """
    model = tester(bench, cfg, precision)
    images = torch.randn(frames, 3, *size, device=bench.device)

    def run() -> None:
        with torch.autocast(bench.device.type, dtype, enabled=precision == 'amp'):
            model.bbox_head(model.extract_feat(images))

    operations = count_operations(run)
    bench.time(run, 'network, eager', frames, frames=frames, size=f'{size[0]}x{size[1]}', precision=precision)
    moved = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), images))
    bench.rows[-1].update(bytes=moved, operations=operations, floor_ms=ceilings.floor(moved, operations, dtype))


def count_operations(function: Callable[[], object]) -> int:
    """Return the multiplications and additions of the matrix products, convolutions and attention of a call."""
    # PyTorch counts attention on GPUs only
    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    counted = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        function()
    return counter.get_total_flops()


def bench_correlation(bench: Bench, shape: Sequence[int], ceilings: Ceilings, plain: bool) -> None:
    """Measure the spatial correlation of float32 maps (B, C, h, w), with its gradients.

    Args:
        bench: collects the rows.
        shape: B, C, h, w.
        ceilings: rates of the device.
        plain: also measure the version in plain PyTorch.
    """
    compiled = not UNAVAILABLE and (bench.device.type != 'cuda' or has_cuda())
    versions: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = []
    if compiled:
        versions.append(('compiled', lambda a, b: spatial_correlation_sample(a, b, **CORRELATION)))
    if plain or not compiled:
        versions.append(('plain PyTorch', lambda a, b: correlation_reference.correlation(a, b, *CORRELATION.values())))
    a, b = (torch.randn(*shape, device=bench.device, requires_grad=True) for _ in range(2))
    patch = CORRELATION['patch_size'][0] * CORRELATION['patch_size'][1]
    read, written = 2 * a.numel() * 4, a.numel() // shape[1] * patch * 4
    for version, run in versions:
        grad = torch.randn_like(run(a, b))
        for what, function, passes in (
                ('forward', lambda run=run: run(a, b), 1),
                ('forward + backward', lambda run=run, grad=grad: torch.autograd.grad(run(a, b), (a, b), grad), 3)):
            with torch.set_grad_enabled(passes > 1):
                bench.time(function, what, shape=_times(shape), version=version)
            moved, operations = passes * (read + written), passes * 2 * a.numel() * patch
            bench.rows[-1].update(bytes=moved, operations=operations,
                                  floor_ms=ceilings.floor(moved, operations, torch.float32))


def _times(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))
