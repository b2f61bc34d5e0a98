"""How fast is a model here? Training step, online frame, batched clip, stages: medians, spread, memory, as a table.

    python tools/analysis_tools/benchmark.py CONFIG [--train] [--loading] [--test] [--stages] [--gpus N] ...

Inputs are synthetic: the model is measured, not the disk; only --loading reads the config's own data. Without any of
these flags --train, --test and --stages run. With --gpus N a training step is that of N processes that share gradients,
and counts the pairs of all.
"""
from __future__ import annotations

import argparse
import copy
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from mmengine.dist import get_rank, get_world_size, is_distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdet.apis import load_config
from mmdet.apis.cli import CommandParser, existing_file, positive_int, run_command
from mmdet.apis.launch import start_processes
from mmdet.engine import VideoRunner, init_processes, leave_processes
from mmdet.engine.workers import stop_workers
from mmdet.models.dense_heads.clip_predictor import FrameGeometry
from mmdet.models.detectors import SipMaskMem
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


def padded_size(text: str) -> tuple[int, int]:
    height, width = parse_size(text)
    if height % 32 or width % 32:
        raise argparse.ArgumentTypeError(f'{text!r}: inputs are padded to multiples of 32')
    return height, width


def parse_args() -> argparse.Namespace:
    parser = CommandParser(prog='tools/analysis_tools/benchmark.py', description=__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=existing_file, help='model config')
    parser.add_argument('--train', action='store_true', help='training step')
    parser.add_argument('--loading', action='store_true', help="training with the config's own data and workers")
    parser.add_argument('--test', action='store_true', help='frames a second, online and batched')
    parser.add_argument('--stages', action='store_true', help='where the time of a test frame goes')
    parser.add_argument('--gpus', type=int, metavar='N', help='processes of the training step, one per GPU')
    parser.add_argument('--size', type=padded_size, nargs='+', default=[(480, 864)], metavar='HxW',
                        help='padded network input (default: 480x864)')
    parser.add_argument('--original', type=parse_size, default=(720, 1280), metavar='HxW',
                        help='frames that masks are made for (default: 720x1280)')
    parser.add_argument('--batch', type=positive_int, nargs='+', default=[1, 8], metavar='N',
                        help='frames of a clip in --test and --stages (default: 1 8)')
    parser.add_argument('--pairs', type=positive_int, default=4, metavar='N',
                        help='key/reference pairs of a training step (default: 4)')
    parser.add_argument('--precision', nargs='+', choices=PRECISIONS, default=['tf32', 'amp'],
                        help='default: tf32 amp')
    parser.add_argument('--warmup', type=positive_int, default=5, metavar='N', help='calls before timing (default: 5)')
    parser.add_argument('--repeats', type=positive_int, default=20, metavar='N', help='timed calls (default: 20)')
    parser.add_argument('--out', help='also write the numbers to this JSON file')
    parser.add_argument('--plot', help='also draw frames per second against batch and size to this PNG file')
    parser.add_argument('--launcher', default='none', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.train or args.loading or args.test or args.stages):
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

    def time(self, function: Callable[[], object], what: str, items: int = 1, at_least: int = 0, mean: bool = False,
             **columns: object) -> float:
        """Median milliseconds of a call; memory is the peak during the timed calls.

        Args:
            items: of a call, for the number a second.
            at_least: calls to time, if more than asked for on the command line.
            mean: take items a second from the sum of all calls' times: where some wait for others, as with data.
        """
        for _ in range(self.warmup):
            function()
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(max(self.repeats, at_least)):
            self.synchronize()
            start = time.perf_counter()
            function()
            self.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        median = statistics.median(times)
        memory = torch.cuda.max_memory_allocated() / 2 ** 30 if self.device.type == 'cuda' else None
        self.rows.append(dict(what=what, **columns, median_ms=median, min_ms=min(times), max_ms=max(times),
                              per_second=1000 * items / (statistics.mean(times) if mean else median),
                              memory_gib=memory))
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


TRAIN_REPEATS = 30  # at least: steps vary more than tests


def trainer(bench: Bench, cfg: Config, amp: bool, with_cp: bool, graphs: bool) -> tuple[torch.nn.Module, OptimWrapper]:
    """A model in training, over all processes, and its optimizer as ``train.py`` would have it."""
    init_default_scope('mmdet')  # mmengine builds optimizer wrappers and data loaders by names
    model = build_model(cfg, bench.device).train()
    for module in model.modules():
        if hasattr(module, 'with_cp'):
            module.with_cp = with_cp
    if hasattr(model, 'graph_training'):
        model.graph_training = graphs
    if is_distributed():
        model = MMDistributedDataParallel(
            model, device_ids=[bench.device.index] if bench.device.type == 'cuda' else None,
            broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper = dict(copy.deepcopy(cfg.optim_wrapper), type='BFloat16OptimWrapper' if amp else 'OptimWrapper')
    return model, build_optim_wrapper(model, wrapper)


def train_settings(bench: Bench, cfg: Config, args: argparse.Namespace) -> Iterator[tuple[str, bool, bool]]:
    """Precision, checkpointing, CUDA graphs."""
    for name in args.precision:
        set_tf32(PRECISIONS[name][0])
        yield name, False, False
        if bench.device.type == 'cuda' and issubclass(MODELS.get(cfg.model.type), SipMaskMem):
            yield name, False, True
        if not args.loading:
            yield name, True, False


def bench_train(bench: Bench, cfg: Config, args: argparse.Namespace, size: tuple[int, int]) -> None:
    """Forward, backward, clipping and optimizer step on one batch that lies on the device."""
    for name, with_cp, graphs in train_settings(bench, cfg, args):
        amp = PRECISIONS[name][1]
        model, optim = trainer(bench, cfg, amp, with_cp, graphs)
        inputs, clips = synthetic_clips(args.pairs, 2, size, num_classes=NUM_CLASSES,
                                        device=bench.device, original=bench.original)

        def step(model=model, inputs=inputs, clips=clips, optim=optim) -> None:
            with optim.optim_context(model):
                losses = model(inputs, clips, mode='loss')
            optim.update_params(sum(value for key, value in losses.items() if 'loss' in key))

        bench.time(step, 'training step', args.pairs * get_world_size(), at_least=TRAIN_REPEATS, GPUs=get_world_size(),
                   pairs=args.pairs, size=f'{size[0]}x{size[1]}', precision=name,
                   checkpointing='on' if with_cp else 'off', graphs='on' if graphs else 'off')


def bench_loading(bench: Bench, cfg: Config, args: argparse.Namespace) -> None:
    """Whole steps on the config's data: loading, copying, step, losses back on the host."""
    for name, with_cp, graphs in train_settings(bench, cfg, args):
        model, optim = trainer(bench, cfg, PRECISIONS[name][1], with_cp, graphs)
        preprocessor = MODELS.build(cfg.model.data_preprocessor).to(bench.device)
        loader = VideoRunner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=0)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))

        def step(model=model, optim=optim, preprocessor=preprocessor, batches=batches) -> None:
            with optim.optim_context(model):
                losses = model(**preprocessor(next(batches), training=True), mode='loss')
            optim.update_params(sum(value for key, value in losses.items() if 'loss' in key))
            torch.stack([value.detach() for value in losses.values()]).tolist()

        pairs = cfg.train_dataloader.batch_size
        for _ in range(2 * cfg.train_dataloader.num_workers):  # batches that were ready before the first step
            step()
        bench.time(step, 'training with loading', pairs * get_world_size(), at_least=4 * TRAIN_REPEATS,
                   mean=True, GPUs=get_world_size(), pairs=pairs, workers=cfg.train_dataloader.num_workers,
                   precision=name, graphs='on' if graphs else 'off')
        stop_workers(loader)


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
        if not hasattr(getattr(head, 'predictor', None), 'detect'):
            print(f'--stages: {type(model).__name__} is not timed part by part')
            return
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
    device = torch.device('cuda', torch.cuda.current_device()) if get_device() == 'cuda' else torch.device('cpu')
    bench = Bench(device, args.warmup, args.repeats, args.original)
    if get_rank() == 0:
        print(f'{args.config}: {hardware()}\n', flush=True)
    for size in args.size:
        for chosen, run in ((args.test, bench_test), (args.stages, bench_stages), (args.train, bench_train)):
            if chosen:
                run(bench, cfg, args, size)
    if args.loading:
        bench_loading(bench, cfg, args)
    rank = get_rank()
    leave_processes()
    if rank:
        return 0
    print(bench.table())
    if args.out:
        Path(args.out).write_text(json.dumps(dict(config=args.config, hardware=hardware(), rows=bench.rows), indent=1))
    if args.plot:
        plot(bench.rows, args.plot)
    return 0


if __name__ == '__main__':
    run_command(main)
