"""Speed measurements with synthetic inputs: training step, training with loading, test clip, stages of a test.

Called by tools/analysis_tools/benchmark.py; ``args`` are its arguments.
"""
from __future__ import annotations

import copy
import math
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size, is_distributed
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmdet.concurrency import overlapped
from mmdet.engine import VideoRunner
from mmdet.engine.distributed import match_grad_strides
from mmdet.engine.prefetch import prefetched
from mmdet.engine.workers import stop_workers
from mmdet.models.dense_heads.base_dense_head import FrameGeometry
from mmdet.models.detectors import SipMaskMem
from mmdet.models.trackers import AssociationTracker
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from tools.analysis_tools.measures.comparison import name_of, setting_of
from tools.analysis_tools.measures.random_weights import build_model
from tools.analysis_tools.measures.synthetic import synthetic_clips

PRECISIONS = {  # name: (TF32 in matrix products, autocast to bfloat16)
    'float32': (False, False),
    'tf32': (True, False),
    'amp': (True, True),
}
NUM_CLASSES = 3  # number of classes in the synthetic ground truth, at most that of any model
OVERLAPPED = 10  # number of clips in a timed call that overlaps them
TRAIN_REPEATS = 30  # minimum, because the times of training steps vary more than those of tests
LEAST_REPEATS = 3  # of a function that takes long; quartiles need as many


class Bench:
    """Times functions on one device and collects the rows of a table, each of which is also printed to stderr.

    Args:
        device: device of the functions.
        warmup, repeats: numbers of calls before timing and of timed calls.
        original: height and width of the original frames and of the masks.
        train_repeats: minimum number of timed training steps; None: :data:`TRAIN_REPEATS`.
        seconds: time after which a row has no further calls, if it has :data:`LEAST_REPEATS` of them.
    """

    def __init__(self, device: torch.device, warmup: int, repeats: int, original: tuple[int, int],
                 train_repeats: int | None = None, seconds: float = math.inf) -> None:
        self.device, self.warmup, self.repeats, self.original = device, warmup, repeats, original
        self.seconds = seconds
        self.train_repeats = TRAIN_REPEATS if train_repeats is None else train_repeats
        self.rows: list[dict] = []

    def synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def time(self, function: Callable[[], object], what: str, items: int = 1, at_least: int = 0, mean: bool = False,
             **columns: object) -> float:
        """Time a function and add a row; return the median time of a call in milliseconds.

        The memory is the peak during the timed calls. Allocated memory is that of tensors without those inside CUDA
        graphs; reserved memory is all memory that PyTorch occupies, including graphs and the allocator's cache.

        Args:
            function: function to time.
            what: its name in the table.
            items: number of items that a call processes, for the rate.
            at_least: minimum number of timed calls, even if they take longer than :attr:`seconds`.
            mean: compute the rate from the mean instead of the median time, for calls that may wait for others, such
                as those of data loaders.
            **columns: settings by name, shown in the table.
        """
        for call in range(self.warmup):
            # the first call may compile; from the second one on, a slow function is one that remains slow
            if self._timed(function) > 1000 * self.seconds / LEAST_REPEATS and call:
                break
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()  # release memory that only the warm-up needed
            function()  # allocate the memory of a call again, untimed
            torch.cuda.reset_peak_memory_stats()
        times: list[float] = []
        repeats = max(self.repeats, at_least)
        least, end = max(min(repeats, LEAST_REPEATS), at_least), time.perf_counter() + self.seconds
        while len(times) < least or (len(times) < repeats and time.perf_counter() < end):
            times.append(self._timed(function))
        peaks = ([torch.cuda.max_memory_allocated() / 2 ** 30, torch.cuda.max_memory_reserved() / 2 ** 30]
                 if self.device.type == 'cuda' else [None, None])
        return self.add(times, what, items, mean, peaks, **columns)

    def _timed(self, function: Callable[[], object]) -> float:
        """Return the time of a call in milliseconds."""
        self.synchronize()
        start = time.perf_counter()
        function()
        self.synchronize()
        return 1000 * (time.perf_counter() - start)

    def add(self, times: Sequence[float], what: str, items: float = 1, mean: bool = False,
            peaks: Sequence[float | None] = (None, None), **columns: object) -> float:
        """Add a row of times that were measured, in milliseconds, and return their median; see :meth:`time`."""
        median = statistics.median(times)
        q1, q3 = np.percentile(times, (25, 75)).tolist()
        self.rows.append(dict(what=what, **columns, median_ms=median, q1_ms=q1, q3_ms=q3, min_ms=min(times),
                              max_ms=max(times), repeats=len(times),
                              per_second=1000 * items / (statistics.mean(times) if mean else median),
                              allocated_gib=peaks[0], reserved_gib=peaks[1]))
        say('{}, {}: median {} ms, {} ms, {} per second'.format(*_cells(self.rows[-1]))
            + (f', {columns["detections_a_frame"]:.1f} detections a frame' if 'detections_a_frame' in columns else '')
            + ('' if None in peaks else ', {:.1f} GiB allocated, {:.1f} GiB reserved'.format(*peaks)))
        return median

    def table(self) -> str:
        """Return all rows as a Markdown table, with columns of floors (see kernels.py) and detections, if there are."""
        optional = [(heading, name, digits) for heading, name, digits in _OPTIONAL
                    if any(name in row for row in self.rows)]
        headings = ['what', 'setting', 'median ms', 'min–max ms', 'per second', *(heading for heading, *_ in optional),
                    'GiB allocated', 'GiB reserved']
        lines = [headings, ['---'] * len(headings)]
        for row in self.rows:
            what, setting, median, spread, rate, *memory = _cells(row)
            more = [f'{row[name]:.{digits}f}' if name in row else '' for _, name, digits in optional]
            lines.append([what, setting, median, spread, rate, *more, *memory])
        return '\n'.join(f'|{"|".join(cells)}|' if cells[0] == '---' else f'| {" | ".join(cells)} |' for cells in lines)


# columns of the table that not every row has: heading, key of the row, number of decimals
_OPTIONAL = (('floor ms', 'floor_ms', 3), ('detections a frame', 'detections_a_frame', 1))


def _cells(row: dict) -> list[str]:
    return [name_of(row), setting_of(row), f'{row["median_ms"]:.2f}', f'{row["min_ms"]:.2f}–{row["max_ms"]:.2f}',
            f'{row["per_second"]:.1f}',
            *('' if row[name] is None else f'{row[name]:.1f}' for name in ('allocated_gib', 'reserved_gib'))]


def say(text: str) -> None:
    """Print a line to stderr, in the first process only."""
    if get_rank() == 0:
        print(text, file=sys.stderr, flush=True)


def trainer(bench: Bench, cfg: Config, amp: bool, with_cp: bool, graphs: bool) -> tuple[nn.Module, OptimWrapper]:
    """Build a model in training mode, with several processes distributed, and its optimizer, as ``train.py`` does."""
    init_default_scope('mmdet')  # mmengine builds optimizer wrappers and data loaders by names
    model = build_model(cfg, bench.device).train()
    for module in model.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = with_cp
    if hasattr(model, 'graph_training'):
        model.graph_training = graphs
    if is_distributed():
        match_grad_strides(model)
        model = MMDistributedDataParallel(
            model, device_ids=[bench.device.index] if bench.device.type == 'cuda' else None,
            broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper = dict(copy.deepcopy(cfg.optim_wrapper), type='BFloat16OptimWrapper' if amp else 'OptimWrapper')
    return model, build_optim_wrapper(model, wrapper)


def train_settings(bench: Bench, cfg: Config, args: Namespace) -> Iterator[tuple[str, bool, bool]]:
    """Yield the settings to measure: precision, activation checkpointing, CUDA graphs."""
    for name in args.precision:
        set_tf32(PRECISIONS[name][0])
        yield name, False, False
        if bench.device.type == 'cuda' and issubclass(MODELS.get(cfg.model.type), SipMaskMem):
            yield name, False, True
        if not args.loading:
            yield name, True, False


def _step(model: nn.Module, optim: OptimWrapper, inputs: Tensor, samples: Sequence[TrackDataSample]) -> dict:
    """Run forward and backward pass, gradient clipping and optimizer step; return the losses by name."""
    with optim.optim_context(model):
        losses = model(inputs, samples, mode='loss')
    optim.update_params(sum(value for key, value in losses.items() if 'loss' in key))
    return losses


def bench_train(bench: Bench, cfg: Config, args: Namespace, size: tuple[int, int]) -> None:
    """Measure training steps on one batch on the device. Reads ``args.precision, pairs, loading``."""
    for name, with_cp, graphs in train_settings(bench, cfg, args):
        model, optim = trainer(bench, cfg, PRECISIONS[name][1], with_cp, graphs)
        inputs, clips = synthetic_clips(args.pairs, 2, size, num_classes=NUM_CLASSES,
                                        device=bench.device, original=bench.original)
        bench.time(partial(_step, model, optim, inputs, clips), 'training step', args.pairs * get_world_size(),
                   at_least=bench.train_repeats, GPUs=get_world_size(), pairs=args.pairs, size=f'{size[0]}x{size[1]}',
                   precision=name, checkpointing='on' if with_cp else 'off', graphs='on' if graphs else 'off')


def _batches(loader: DataLoader, model: nn.Module, preprocessor: nn.Module) -> Generator[dict, None, None]:
    """Yield the batches of endless epochs with prefetching, as the training loop does."""
    inner = model.module if is_model_wrapper(model) else model
    while True:
        with prefetched(iter(loader), loader, inner, preprocessor) as batches:
            yield from batches


def _loaded_step(model: nn.Module, optim: OptimWrapper, preprocessor: nn.Module, batches: Iterator[dict]) -> None:
    data = preprocessor(next(batches), training=True)
    losses = _step(model, optim, data['inputs'], data['data_samples'])
    torch.stack([value.detach() for value in losses.values()]).tolist()


def bench_loading(bench: Bench, cfg: Config, args: Namespace) -> None:
    """Measure steps on the config's data, with loading and copying of batch and losses. Reads ``args.precision``.

    The next batch is prefetched during a step, as in ``train.py``.
    """
    for name, with_cp, graphs in train_settings(bench, cfg, args):
        model, optim = trainer(bench, cfg, PRECISIONS[name][1], with_cp, graphs)
        preprocessor = MODELS.build(cfg.model.data_preprocessor).to(bench.device)
        loader = VideoRunner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=0)
        pairs = cfg.train_dataloader.batch_size
        try:
            with closing(_batches(loader, model, preprocessor)) as batches:
                step = partial(_loaded_step, model, optim, preprocessor, batches)
                # batches loaded before the first step; with graphs, until most of the shapes were captured
                untimed = max(2 * cfg.train_dataloader.num_workers, 4 * bench.train_repeats if graphs else 0)
                for _ in range(untimed):
                    step()
                bench.time(step, 'training with loading', pairs * get_world_size(), at_least=4 * bench.train_repeats,
                           mean=True, GPUs=get_world_size(), pairs=pairs, workers=cfg.train_dataloader.num_workers,
                           precision=name, graphs='on' if graphs else 'off')
        finally:
            stop_workers(loader)


def tester(bench: Bench, cfg: Config, precision: str) -> nn.Module:
    """Build a model in evaluation mode, as ``test_video.py`` does."""
    tf32, amp = PRECISIONS[precision]
    set_tf32(tf32)
    model = build_model(cfg, bench.device).eval()
    if amp and hasattr(model, 'halve_weights'):
        model.halve_weights()
    return model


def _run(device: str, amp: bool, function: Callable[..., Any], *inputs: object, **options: object) -> Any:
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        return function(*inputs, **options)


def bench_test(bench: Bench, cfg: Config, args: Namespace, size: tuple[int, int]) -> None:
    """Measure clips of one video, from inputs on the device to tracks. Reads ``args.precision, batch``.

    On a GPU, also several clips in succession that overlap, as in ``test_video.py``.
    """
    for name in args.precision:
        model = tester(bench, cfg, name)
        for batch in args.batch:
            inputs, clips = synthetic_clips(1, batch, size, num_classes=NUM_CLASSES,
                                            device=bench.device, original=bench.original)
            predict = partial(_run, bench.device.type, PRECISIONS[name][1], model, inputs, clips, mode='predict')
            detections = _run(bench.device.type, PRECISIONS[name][1], count_detections, model, inputs, clips) / batch
            columns = dict(frames=batch, size=f'{size[0]}x{size[1]}', precision=name,
                           detections_a_frame=detections)
            bench.time(predict, 'test clip', batch, **columns)
            if bench.device.type == 'cuda' and hasattr(model, 'launch'):
                launch = partial(_run, 'cuda', PRECISIONS[name][1], model.launch, inputs, clips)
                bench.time(partial(overlap_clips, launch), 'test clips, overlapped', OVERLAPPED * batch,
                           clips=OVERLAPPED, **columns)


@torch.no_grad()
def count_detections(model: nn.Module, inputs: Tensor, clips: Sequence[TrackDataSample]) -> int:
    """Count the detections of clips before tracking, which drops some; one has cost what each costs by then."""
    found = model.detect_in_streams(inputs, clips, [model.new_stream() for _ in clips])
    return sum(len(instances) for frames in found for instances in frames)


def overlap_clips(launch: Callable[[], Callable[[], object]]) -> None:
    """Process :data:`OVERLAPPED` clips, each of which is launched before its predecessor is completed."""
    for _ in overlapped(range(OVERLAPPED), lambda _: launch()):
        pass


def _track(tracker: AssociationTracker, detections: Sequence[InstanceData]) -> None:
    state = tracker.new_state()
    for instances in detections:
        tracker.track(instances.clone(), state)


@torch.no_grad()
def bench_stages(bench: Bench, cfg: Config, args: Namespace, size: tuple[int, int]) -> None:
    """Measure the stages of a test clip separately. Reads ``args.precision, batch``."""
    for name in args.precision:
        model = tester(bench, cfg, name)
        if not isinstance(model, SipMaskMem):
            say(f'--stages: {type(model).__name__} has no stages to measure')
            return
        head = model.bbox_head
        for batch in args.batch:
            inputs, clips = synthetic_clips(1, batch, size, num_classes=NUM_CLASSES,
                                            device=bench.device, original=bench.original)
            run = partial(_run, bench.device.type, PRECISIONS[name][1])
            geometries = [FrameGeometry.of(frame) for frame in clips[0]]
            levels = run(model.backbone, inputs[0])
            feats = run(model.neck, levels)
            outputs = run(head, feats)
            found = head.detect(outputs, geometries)
            detections = head.results(found, geometries)
            for what, part in (('backbone', partial(run, model.backbone, inputs[0])),
                               ('neck', partial(run, model.neck, levels)),
                               ('head', partial(run, head, feats)),
                               ('boxes, masks', partial(head.detect, outputs, geometries)),
                               ('copy, RLE', partial(head.results, found, geometries)),
                               ('tracking', partial(_track, model.tracker, detections))):
                bench.time(part, what, batch, frames=batch, precision=name)


def set_tf32(enabled: bool) -> None:
    """Enable TF32 in matrix products and convolutions, or disable it."""
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled
