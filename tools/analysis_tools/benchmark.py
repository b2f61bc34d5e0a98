"""How fast is a model here? Training step, online frame, batched clip, stages: medians, spread, memory, as a table.

    python tools/analysis_tools/benchmark.py CONFIG [--train] [--test] [--stages] [--gpus N] [--size 480x864 ...]

Inputs are synthetic: the model is measured, not the disk. Without --train, --test or --stages all three run. With
--gpus N the training step is that of N processes that share gradients, and counts the pairs of all.
"""
from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import mmcv
import mmengine
import torch
import torchvision
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_local_rank, get_rank, get_world_size, is_distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis import load_config
from mmdet.apis.cli import CommandParser, existing_file, run_command
from mmdet.apis.launch import start_processes
from mmdet.engine import init_processes
from mmdet.models.dense_heads.clip_predictor import FrameGeometry
from mmdet.registry import MODELS
from mmdet.testing.synthetic import synthetic_clips

PRECISIONS = {  # name: (TF32 in matrix products, autocast to bfloat16)
    'float32': (False, False),
    'tf32': (True, False),
    'amp': (True, True),
}


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, such as 480x864')
    return int(height), int(width)


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of at least 1')
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = CommandParser(prog='tools/analysis_tools/benchmark.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=existing_file, help='model config')
    parser.add_argument('--train', action='store_true', help='training step')
    parser.add_argument('--test', action='store_true', help='frames a second, online and batched')
    parser.add_argument('--stages', action='store_true', help='where the time of a test frame goes')
    parser.add_argument('--gpus', type=int, metavar='N', help='processes of the training step, one per GPU')
    parser.add_argument('--size', type=parse_size, nargs='+', default=[(480, 864)], metavar='HxW',
                        help='padded network input (default: 480x864)')
    parser.add_argument('--original', type=parse_size, default=(720, 1280), metavar='HxW',
                        help='frames that masks are made for (default: 720x1280)')
    parser.add_argument('--batch', type=positive, nargs='+', default=[1, 8], metavar='N',
                        help='frames of a clip in --test and --stages (default: 1 8)')
    parser.add_argument('--pairs', type=positive, default=4, metavar='N',
                        help='key/reference pairs of a training step (default: 4)')
    parser.add_argument('--precision', nargs='+', choices=PRECISIONS, default=['tf32', 'amp'],
                        help='default: tf32 amp')
    parser.add_argument('--warmup', type=positive, default=5, metavar='N', help='calls before timing (default: 5)')
    parser.add_argument('--repeats', type=positive, default=20, metavar='N', help='timed calls (default: 20)')
    parser.add_argument('--out', help='also write the numbers to this JSON file')
    parser.add_argument('--plot', help='also draw frames per second against batch and size to this PNG file')
    parser.add_argument('--launcher', default='none', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.train or args.test or args.stages):
        args.train = args.test = args.stages = True
    return args


NUM_CLASSES = 3  # of the synthetic ground truth, no more than any model has


class Bench:
    """Times functions on one device and keeps rows for the tables."""

    def __init__(self, device: torch.device, warmup: int, repeats: int, original: tuple[int, int]) -> None:
        self.device, self.warmup, self.repeats, self.original = device, warmup, repeats, original
        self.rows: list[dict] = []

    def synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def time(self, function: Callable[[], object], what: str, items: int = 1, **columns) -> float:
        """Median milliseconds of a call; memory is the peak during the timed calls."""
        for _ in range(self.warmup):
            function()
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(self.repeats):
            self.synchronize()
            start = time.perf_counter()
            function()
            self.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        median = statistics.median(times)
        memory = torch.cuda.max_memory_allocated() / 2 ** 30 if self.device.type == 'cuda' else None
        self.rows.append(dict(what=what, **columns, median_ms=median, min_ms=min(times), max_ms=max(times),
                              per_second=1000 * items / median, memory_gib=memory))
        return median

    def table(self) -> str:
        lines = ['| what | setting | median ms | min–max ms | per second | GiB |', '|---|---|---|---|---|---|']
        fixed = {'what', 'median_ms', 'min_ms', 'max_ms', 'per_second', 'memory_gib'}
        for row in self.rows:
            setting = ', '.join(f'{key} {value}' for key, value in row.items() if key not in fixed)
            memory = '' if row['memory_gib'] is None else f'{row["memory_gib"]:.1f}'
            lines.append(f'| {row["what"]} | {setting} | {row["median_ms"]:.2f} '
                         f'| {row["min_ms"]:.2f}–{row["max_ms"]:.2f} | {row["per_second"]:.1f} | {memory} |')
        return '\n'.join(lines)


def hardware() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    return (f'{gpu}, {torch.get_num_threads()} CPU threads ({platform.machine()}), Python {platform.python_version()}, '
            f'torch {torch.__version__}, torchvision {torchvision.__version__}, mmengine {mmengine.__version__}, '
            f'mmcv {mmcv.__version__}')


def build_model(cfg: Config, device: torch.device) -> torch.nn.Module:
    """The config's model with random weights that behave like trained ones: full frames, masks that fill boxes."""
    model_cfg = cfg.model.copy()
    model_cfg.data_preprocessor = None
    model_cfg.backbone.pop('init_cfg', None)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    head = model.bbox_head
    if hasattr(head, 'fcos_cls'):
        torch.nn.init.zeros_(head.fcos_cls.bias)  # scores pass the threshold
    else:
        torch.nn.init.constant_(head.fc_cls.bias[1:2], 3.0)  # a third of the probability
    for name in ('mask_fuse', 'track_fuse'):  # coefficients · mask map is positive nearly everywhere
        if hasattr(head, name):
            torch.nn.init.ones_(getattr(head, name).bias)
    return model.to(device)


def bench_train(bench: Bench, cfg: Config, args: argparse.Namespace, size: tuple[int, int]) -> None:
    for with_cp in (False, True):
        for name in args.precision:
            tf32, amp = PRECISIONS[name]
            set_tf32(tf32)
            model = build_model(cfg, bench.device).train()
            model.backbone.with_cp = with_cp
            if is_distributed():
                model = MMDistributedDataParallel(
                    model, device_ids=[bench.device.index] if bench.device.type == 'cuda' else None,
                    broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False))
            optim = build_optim_wrapper(model, dict(cfg.optim_wrapper, type='OptimWrapper'))
            inputs, clips = synthetic_clips(args.pairs, 2, size, num_classes=NUM_CLASSES,
                                            device=bench.device, original=bench.original)

            def step(model=model, inputs=inputs, clips=clips, amp=amp, optim=optim) -> None:
                with torch.autocast(bench.device.type, torch.bfloat16, enabled=amp):
                    losses = model(inputs, clips, mode='loss')
                optim.update_params(sum(value for key, value in losses.items() if 'loss' in key))

            bench.time(step, 'training step', args.pairs * get_world_size(), GPUs=get_world_size(), pairs=args.pairs,
                       size=f'{size[0]}x{size[1]}', precision=name, checkpointing='on' if with_cp else 'off')


def bench_test(bench: Bench, cfg: Config, args: argparse.Namespace, size: tuple[int, int]) -> None:
    for name in args.precision:
        tf32, amp = PRECISIONS[name]
        set_tf32(tf32)
        model = build_model(cfg, bench.device).eval()
        if amp and hasattr(model, 'halve_weights'):
            model.halve_weights()
        for batch in args.batch:
            inputs, clips = synthetic_clips(1, batch, size, num_classes=NUM_CLASSES,
                                            device=bench.device, original=bench.original)

            def predict(model=model, inputs=inputs, clips=clips, amp=amp) -> None:
                with torch.autocast(bench.device.type, torch.bfloat16, enabled=amp):
                    model(inputs, clips, mode='predict')

            bench.time(predict, 'test clip', batch, frames=batch, size=f'{size[0]}x{size[1]}', precision=name)


@torch.no_grad()
def bench_stages(bench: Bench, cfg: Config, args: argparse.Namespace, size: tuple[int, int]) -> None:
    for name in args.precision:
        tf32, amp = PRECISIONS[name]
        set_tf32(tf32)
        model = build_model(cfg, bench.device).eval()
        if amp and hasattr(model, 'halve_weights'):
            model.halve_weights()
        head = model.bbox_head
        for batch in args.batch:
            inputs, clips = synthetic_clips(1, batch, size, num_classes=NUM_CLASSES,
                                            device=bench.device, original=bench.original)
            images, frames = inputs[0], clips[0].video_data_samples

            def cast(function: Callable, *inputs: object, amp=amp) -> Callable:
                def run() -> object:
                    with torch.autocast(bench.device.type, torch.bfloat16, enabled=amp):
                        return function(*inputs)
                return run

            backbone = cast(model.backbone, images)()
            feats = cast(model.neck, backbone)()
            maps = cast(head, feats)()
            geometry = FrameGeometry.of(frames[0])
            found = head.predictor.detect(maps, geometry)
            detections = head.predictor.collect(found, geometry)
            common = dict(frames=batch, precision=name)
            bench.time(cast(model.backbone, images), 'backbone', batch, **common)
            bench.time(cast(model.neck, backbone), 'neck', batch, **common)
            bench.time(cast(head, feats), 'head', batch, **common)
            bench.time(partial(head.predictor.detect, maps, geometry), 'boxes, masks', batch, **common)
            bench.time(partial(head.predictor.collect, found, geometry), 'copy, RLE', batch, **common)

            def track(tracker=model.tracker, detections=detections) -> None:
                tracker.reset()
                for instances in detections:
                    tracker.track(instances.clone())

            bench.time(track, 'tracking', batch, **common)


def set_tf32(enabled: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled


def plot(rows: list[dict], path: str) -> None:
    """Frames per second of the test clips against the batch, a line for each size and precision."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row['what'] == 'test clip':
            lines.setdefault(f'{row["size"]}, {row["precision"]}', []).append((row['frames'], row['per_second']))
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points)), marker='o', label=label)
    axes.set_xscale('log', base=2)
    axes.set(xlabel='frames of a clip at once', ylabel='frames per second', ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(title='input, precision')
    figure.savefig(path, dpi=120)


def main(_: Sequence[str] | None) -> int:
    args = parse_args()
    status = start_processes(args.gpus, args.launcher, sys.argv)
    if status is not None:
        return status
    cfg = load_config(args.config)
    if args.launcher != 'none':
        init_processes(args.launcher)
    device = torch.device(get_device(), get_local_rank()) if get_device() == 'cuda' else torch.device('cpu')
    bench = Bench(device, args.warmup, args.repeats, args.original)
    if get_rank() == 0:
        print(f'{args.config}: {hardware()}\n', flush=True)
    for size in args.size:
        for chosen, run in ((args.test, bench_test), (args.stages, bench_stages), (args.train, bench_train)):
            if chosen:
                run(bench, cfg, args, size)
    if get_rank() != 0:
        return 0
    print(bench.table())
    if args.out:
        Path(args.out).write_text(json.dumps(dict(config=args.config, hardware=hardware(), rows=bench.rows), indent=1))
    if args.plot:
        plot(bench.rows, args.plot)
    return 0


if __name__ == '__main__':
    run_command(main)
