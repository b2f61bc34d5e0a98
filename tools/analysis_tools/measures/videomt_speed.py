"""Speed measurements of VidEoMT with random weights: the network alone, up to RLE masks, and transformers' version.

Called by tools/analysis_tools/benchmark_videomt.py. As in the authors' measurements, a burst of frames is timed as a
whole, with synchronisation of the GPU only before and after it.
"""
from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import psutil
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from mmdet.models.cuda_graphs import InferenceGraphs
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from tools.analysis_tools.measures.speed import Bench, say

DTYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16, 'float32': torch.float32}
OBJECTS = 10  # number of objects in a frame for measurements up to RLE masks


def build(cfg: Config, dtype: torch.dtype, regime: str, device: torch.device) -> nn.Module:
    """Build the config's model for testing, with random weights that give a few smooth masks."""
    model_cfg = cfg.model.copy()
    model_cfg.data_preprocessor = None
    model_cfg.results.update(score_thr=0.0, max_per_frame=OBJECTS)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    with torch.no_grad():
        positions = model.backbone.vit.pos_embed
        side = model.backbone.vit.patch_embed.grid_size
        smooth = F.interpolate(torch.randn(1, positions.shape[-1], 4, 4), side, mode='bicubic')
        positions.copy_(20 * smooth.flatten(2).transpose(1, 2))
        for block in model.head.upscale:
            block.conv1.weight.copy_(block.conv1.weight[:, :, :1, :1].expand_as(block.conv1.weight))
            block.conv2.weight.fill_(1 / 9)
    model.to(device).eval()
    if dtype is not torch.float32:
        if regime == 'whole':
            model.to(dtype)
        else:
            model.halve_weights(dtype)
    return model


def network(model: nn.Module, mode: str) -> Callable[[Tensor, Tensor], object]:
    """Return ``run_clips`` in eager mode, as a CUDA graph, or compiled and as a CUDA graph."""
    if mode == 'eager':
        return model.run_clips
    graphs = InferenceGraphs()
    function = model.run_clips
    if mode == 'compile':
        compiled = torch.compile(model.run_clips, dynamic=False, options={'triton.cudagraphs': False})

        def function(images: Tensor, queries: Tensor) -> object:
            return compiled(images, queries)

    return lambda images, queries: graphs.run(function, images, queries)


@torch.no_grad()
def bench_network(bench: Bench, cfg: Config, name: str, size: tuple[int, int], precision: str, regime: str, mode: str,
                  clip: int, burst: int) -> None:
    """Measure the network: from normalised frames on the device to class and mask logits."""
    dtype = DTYPES[precision]
    model = build(cfg, dtype, regime, bench.device)
    images = torch.randn(1, clip, 3, *size, device=bench.device)
    whole = regime == 'whole' and dtype is not torch.float32
    images = images.to(dtype) if whole else images
    run, first = network(model, mode), model.head.first_queries(1).clone()

    def frames() -> None:
        queries = first
        with torch.autocast(bench.device.type, dtype, enabled=not whole and dtype is not torch.float32):
            for _ in range(max(burst // clip, 1)):
                queries = run(images, queries).queries.to(first.dtype)

    bench.time(frames, 'network', max(burst // clip, 1) * clip, model=name, clip=clip, size=f'{size[0]}x{size[1]}',
               precision=precision, regime=regime, mode=mode)


def stream_clips(size: tuple[int, int], original: tuple[int, int], clip: int) -> Iterator[TrackDataSample]:
    """Yield the clips of an endless stream."""
    for first in itertools.count(0, clip):
        sample = TrackDataSample()
        sample.video_data_samples = [
            DetDataSample(metainfo=dict(frame_id=first + index, source_frame=first + index, video_id=1,
                                        img_shape=size, ori_shape=original)) for index in range(clip)]
        yield sample


def online(model: nn.Module, size: tuple[int, int], precision: str, regime: str, bench: Bench,
           clip: int) -> Callable[[], TrackDataSample]:
    """Return a function that processes the next clip of a stream up to RLE masks."""
    dtype = DTYPES[precision]
    whole = regime == 'whole' and dtype is not torch.float32
    images = torch.randn(1, clip, 3, *size, device=bench.device)
    images = images.to(dtype) if whole else images
    clips, stream = stream_clips(size, bench.original, clip), model.new_stream()

    def step() -> TrackDataSample:
        with torch.autocast(bench.device.type, dtype, enabled=not whole and dtype is not torch.float32):
            return model(images, [next(clips)], mode='predict', streams=[stream])[0]

    return step


@torch.no_grad()
def bench_online(bench: Bench, cfg: Config, name: str, size: tuple[int, int], precision: str, regime: str, clip: int,
                 burst: int) -> None:
    """Measure the whole model: from normalised frames on the device to results with masks of the original size."""
    step = online(build(cfg, DTYPES[precision], regime, bench.device), size, precision, regime, bench, clip)
    steps = max(burst // clip, 1)
    bench.time(lambda: [step() for _ in range(steps)], 'up to RLE', steps * clip, model=name, clip=clip,
               size=f'{size[0]}x{size[1]}', original=f'{bench.original[0]}x{bench.original[1]}', objects=OBJECTS,
               precision=precision, regime=regime, mode='graphs' if bench.device.type == 'cuda' else 'eager')


@torch.no_grad()
def memory_over_frames(bench: Bench, cfg: Config, size: tuple[int, int], precision: str, regime: str,
                       frames: int) -> list[dict]:
    """Return the memory at ten points of a stream of ``frames`` frames, in MiB: allocated on the GPU, resident RAM."""
    step = online(build(cfg, DTYPES[precision], regime, bench.device), size, precision, regime, bench, 1)
    process, rows = psutil.Process(os.getpid()), []
    for number in range(1, frames + 1):
        step()
        if number % max(frames // 10, 1) == 0:
            bench.synchronize()
            gpu = torch.cuda.memory_allocated() / 2 ** 20 if bench.device.type == 'cuda' else None
            rows.append(dict(frame=number, gpu_mib=gpu, host_mib=process.memory_info().rss / 2 ** 20))
            say(f'frame {number}: ' + ', '.join(f'{key} {value:.1f}' for key, value in rows[-1].items()
                                                if key != 'frame' and value is not None))
    return rows


@torch.no_grad()
def bench_transformers(bench: Bench, cfg: Config, name: str, size: tuple[int, int], precision: str, compiled: bool,
                       clip: int, burst: int) -> bool:
    """Measure transformers' network; return False if it is not installed.

    It accepts square frames only: their size is the largest that does not have more patches than ``size``. It has no
    state, so each call begins a video. It runs under autocast, which it needs to accept float32 frames.
    """
    try:
        from transformers import VideomtConfig, VideomtForUniversalSegmentation
    except ImportError:
        return False
    backbone, dtype = cfg.model.backbone, DTYPES[precision]
    patch = backbone.get('patch_size', 16)
    side = int(((size[0] // patch) * (size[1] // patch)) ** 0.5) * patch
    model = VideomtForUniversalSegmentation(VideomtConfig(
        hidden_size=backbone.embed_dims, num_hidden_layers=backbone.depth, num_attention_heads=backbone.num_heads,
        num_blocks=backbone.query_blocks, num_queries=cfg.model.head.num_queries, image_size=side, patch_size=patch,
        num_register_tokens=backbone.get('num_registers', 4), num_labels=cfg.model.head.num_classes))
    model.to(bench.device).eval()
    run = torch.compile(model) if compiled else model
    images = torch.randn(1, clip, 3, side, side, device=bench.device)

    def frames() -> None:
        with torch.autocast(bench.device.type, dtype, enabled=dtype is not torch.float32):
            for _ in range(max(burst // clip, 1)):
                run(pixel_values_videos=images)

    bench.time(frames, 'transformers', max(burst // clip, 1) * clip, model=name, clip=clip, size=f'{side}x{side}',
               precision=precision, regime='autocast', mode='compile' if compiled else 'eager')
    return True
