"""The suite of benchmark.py: one function for each public path, and the settings for a GPU, a CPU and a quick test.

Inputs are synthetic or made in a temporary folder; weights are random. Called by tools/analysis_tools/benchmark.py.
"""
from __future__ import annotations

import copy
import gc
import json
import subprocess
import sys
import tempfile
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from mmdet.apis import VideoInferencer, load_config
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.transforms.frame_loading import read_frame
from mmdet.engine import VideoRunner
from mmdet.engine.workers import stop_workers
from mmdet.errors import UserError
from mmdet.evaluation.functional import evaluate_vis
from mmdet.models.trackers import AssociationTracker
from mmdet.structures.device_rle import masks_to_rle
from tools.analysis_tools.measures import videomt_speed
from tools.analysis_tools.measures.kernels import Ceilings, bench_correlation, bench_kernels, bench_network
from tools.analysis_tools.measures.load import leaving_and_returning, scoring_contents
from tools.analysis_tools.measures.speed import Bench, bench_loading, bench_test, bench_train, say
from tools.analysis_tools.measures.stub_detector import StubDetector
from tools.analysis_tools.measures.synthetic import synthetic_frame
from tools.analysis_tools.measures.testing_process import bench_test_process

ROOT = Path(__file__).resolve().parents[3]
CLASSES = 3  # of the toy videos


@dataclass(frozen=True)
class Settings:
    """What the suite measures.

    Attributes:
        configs: configs of the models, by path.
        size, original: height and width of the network's input and of the frames, for MemCNP.
        small, small_original: the same for the models with a ResNet.
        sizes: inputs for the growth with the size.
        batch, pairs: numbers of frames of a clip and of pairs of a training step.
        precision, dtype: precision of the networks, and the dtype that it means for the kernels.
        videos, val_videos, frames: videos for training and testing with loading, and frames of each.
        shown: how often each video for testing is shown.
        workers: processes for loading.
        streamed: frames of a video in which objects are associated or drawn.
        objects: numbers of objects for RLE and association.
        scored: videos for scoring.
        correlation: shapes of the maps of the spatial correlation.
        copied, side: bytes and side of the matrices with which the rates of the device are measured.
        train_repeats: minimum number of timed training steps.
        overrides: changes of the models' configs, as pairs of ``load_config``.
    """

    configs: dict[str, str]
    size: tuple[int, int] = (480, 864)
    original: tuple[int, int] = (720, 1280)
    small: tuple[int, int] = (384, 640)
    small_original: tuple[int, int] = (360, 640)
    sizes: tuple[tuple[int, int], ...] = ((288, 512), (384, 640), (480, 864), (736, 1280))
    batch: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    pairs: int = 4
    precision: str = 'amp'
    dtype: torch.dtype = torch.bfloat16
    videos: int = 16
    val_videos: int = 8
    frames: int = 20
    shown: int = 8
    workers: int = 15
    streamed: int = 300
    objects: tuple[int, ...] = (1, 3, 10, 30, 100)
    scored: int = 140
    correlation: tuple[tuple[int, int, int, int], ...] = ((2, 256, 48, 80), (2, 256, 96, 160))
    copied: int = 2 ** 30
    side: int = 8192
    train_repeats: int = 20
    overrides: tuple[tuple[str, str], ...] = ()

    @property
    def args(self) -> Namespace:
        """The settings as arguments of the functions in speed.py."""
        return Namespace(precision=[self.precision], batch=self.batch, pairs=self.pairs, loading=True)

    def file(self, path: str) -> Path:
        """Return the config file of a path."""
        return ROOT / 'configs' / self.configs[path]

    def load(self, path: str, classes: int | None = None) -> Config:
        """Load the config of a path, with another number of classes than its own if the data have another one."""
        known = load_config(self.file(path)).model
        changes = [(key, value) for key, value in self.overrides if key.split('.')[1] in known]
        if classes is not None:
            changes.append(('model.bbox_head.num_classes', str(classes)))
        return load_config(self.file(path), changes)


GPU = Settings(configs=dict(
    memcnp='vitmae_cnp_contrast_ms_1x.py', sipmask='sipmask_r50_fpn_gn_ms_1x.py',
    masktrack='masktrack_rcnn_r50_fpn_1x_yvis.py', fcos='fcos_r50_caffe_fpn_gn_1x.py',
    torchvision='maskrcnn_r50_fpn_coco.py', videomt='videomt_base_ytvis2019.py'),
               overrides=(('model.net_args.box_detections_per_img', '10'),))  # as the other models
CPU = replace(
    GPU, configs=GPU.configs | dict(memcnp='memcnp_toy.py', videomt='videomt_toy.py'), size=(192, 320),
    original=(192, 320), small=(192, 320), small_original=(192, 320), sizes=((96, 160), (192, 320), (288, 480)),
    batch=(1, 2, 4, 8), precision='float32', dtype=torch.float32, videos=4, val_videos=2, frames=10, shown=2, workers=2,
    streamed=100, objects=(1, 3, 10, 30), scored=20, correlation=((1, 256, 24, 40),), copied=2 ** 28, side=1024,
    overrides=(*GPU.overrides, ('model.min_size', '192'), ('model.max_size', '320')))
QUICK = replace(
    CPU, configs=CPU.configs | dict(sipmask='sipmask_toy_textured.py'), size=(64, 96), original=(64, 96),
    small=(64, 96), small_original=(64, 96), sizes=((32, 64), (64, 96)), batch=(1, 2), pairs=1, videos=2, val_videos=1,
    frames=3, shown=6, workers=0, streamed=4, objects=(1, 3), scored=2, correlation=((1, 8, 6, 8),), copied=2 ** 20,
    side=64, train_repeats=1, overrides=(
        *GPU.overrides,
        ('model.min_size', '64'), ('model.max_size', '96'), ('model.net_args.rpn_post_nms_top_n_test', '5'),
        ('model.rpn_head.max_per_img', '5'), ('model.rpn_head.nms_pre', '5')))


class NotMeasured(Exception):
    """A path cannot be measured here; the text says why."""


@contextmanager
def _toy_videos(settings: Settings) -> Iterator[Path]:
    """Make videos of JPEG files of the original size."""
    with tempfile.TemporaryDirectory() as folder:
        height, width = settings.original
        spec = ToyVIS(videos=settings.videos, val_videos=settings.val_videos, frames=settings.frames,
                      size=(width, height), classes=CLASSES)
        make_toy_vis(folder, spec, workers=max(settings.workers, 1), progress=False)
        yield Path(folder)


def _endless(loader: DataLoader) -> Iterator[object]:
    while True:
        yield from loader


def _training(bench: Bench, settings: Settings) -> None:
    bench_train(bench, settings.load('memcnp'), settings.args, settings.size)


def _loading(bench: Bench, settings: Settings) -> None:
    """Batches of the config's transforms from JPEG files: in this process, by workers, and with training."""
    init_default_scope('mmdet')
    with _toy_videos(settings) as folder:
        cfg = settings.load('memcnp', CLASSES)
        data = cfg.train_dataloader
        data.update(batch_size=settings.pairs, num_workers=settings.workers)
        data.dataset.update(data_root=f'{folder}/', ann_file='annotations/instances_train.json')
        for workers in dict.fromkeys((0, settings.workers)):
            chosen = copy.deepcopy(data)
            chosen.update(num_workers=workers, persistent_workers=workers > 0, pin_memory=False)
            loader = VideoRunner.build_dataloader(chosen, seed=0)
            try:
                batches = _endless(loader)
                for _ in range(3 * workers):  # batches loaded before the first request
                    next(batches)
                bench.time(partial(next, batches), 'batch', settings.pairs, at_least=2 * workers, mean=True,
                           pairs=settings.pairs, workers=workers, original=_times(settings.original))
            finally:
                stop_workers(loader)
        data.persistent_workers = settings.workers > 0
        bench_loading(bench, cfg, settings.args)


def _model(path: str, bench: Bench, settings: Settings) -> None:
    """Online frames and clips of a model with a ResNet."""
    bench.original = settings.small_original
    args = settings.args
    args.batch = [number for number in settings.batch if number in (1, 8)]
    bench_test(bench, settings.load(path), args, settings.small)


def _test(bench: Bench, settings: Settings) -> None:
    bench_test(bench, settings.load('memcnp'), settings.args, settings.size)


def _test_files(bench: Bench, settings: Settings) -> None:
    """Processes of ``test_video.py`` with a test set of JPEG files: loading, network, RLE, ids and result files."""
    with _toy_videos(replace(settings, videos=0)) as folder:
        bench_test_process(bench, settings.load('memcnp', CLASSES), settings.file('memcnp'), folder,
                           settings.shown, settings.workers, settings.precision)


def _sizes(bench: Bench, settings: Settings) -> None:
    args = settings.args
    args.batch = settings.batch[:1]
    for size in settings.sizes:
        bench_test(bench, settings.load('memcnp'), args, size)


def _video(bench: Bench, settings: Settings) -> None:
    """``VideoInferencer`` with a detector without a network: reading nothing, writing nothing, JSON, MP4."""
    with _toy_videos(settings) as folder:
        scene = [read_frame(str(path)) for path in sorted((folder / 'valid_images').glob('*/*.jpg'))]
        frames = [scene[number % len(scene)] for number in range(settings.streamed)]
        inferencer = VideoInferencer(StubDetector(5), device='cpu')
        for outputs in ((), ('json',), ('mp4',)):
            def process(outputs: Sequence[str] = outputs) -> None:
                arguments = dict(out=str(folder / 'out'), outputs=list(outputs)) if outputs else {}
                for _ in inferencer(iter(frames), fps=30, **arguments):
                    pass

            bench.time(process, 'video', len(frames), frames=len(frames), objects=5,
                       outputs=' '.join(outputs) or 'none', original=_times(settings.original))


def _scoring(bench: Bench, settings: Settings) -> None:
    contents = scoring_contents(videos=settings.scored)
    bench.time(partial(evaluate_vis, *contents), 'scoring', settings.scored, videos=settings.scored, tracks=20)


def _rle(bench: Bench, settings: Settings) -> None:
    """Masks on the device to compressed RLE on the host; the floor is that of reading the masks once."""
    for objects in settings.objects:
        frame = synthetic_frame(0, settings.original, objects, 1, settings.original, bench.device,
                                torch.Generator().manual_seed(0))
        masks = frame.gt_instances.masks.bool()
        bench.time(partial(masks_to_rle, masks), 'masks to RLE', objects, objects=objects,
                   size=_times(settings.original))
        bench.rows[-1].update(bytes=masks.numel())


def _association(bench: Bench, settings: Settings) -> None:
    for visible in settings.objects:
        frames = [found for _, found in leaving_and_returning(settings.streamed, 3 * visible, visible)]

        def associate(frames: Sequence = frames) -> None:
            tracker = AssociationTracker(max_tracks=500)
            state = tracker.new_state()
            for found in frames:
                tracker.track(found.clone(), state)

        bench.time(associate, 'association', len(frames), frames=len(frames), objects=3 * visible, visible=visible)


def _kernels(bench: Bench, settings: Settings) -> None:
    ceilings = Ceilings.measure(bench, [settings.dtype], settings.copied, settings.side)
    cfg = settings.load('memcnp')
    frames = 8 if 8 in settings.batch else 1
    bench_kernels(bench, cfg, ceilings, frames, settings.size, settings.dtype)
    bench_network(bench, cfg, ceilings, frames, settings.size, settings.precision, settings.dtype)


def _correlation(bench: Bench, settings: Settings) -> None:
    ceilings = Ceilings.measure(bench, [torch.float32], settings.copied, settings.side)
    for shape in settings.correlation:
        bench_correlation(bench, shape, ceilings, plain=shape == settings.correlation[0])


def _videomt(bench: Bench, settings: Settings) -> None:
    cuda = bench.device.type == 'cuda'
    cfg, size = settings.load('videomt'), settings.small if not cuda else (448, 800)
    precision, regime, burst = ('fp16', 'whole', 64) if cuda else ('float32', 'autocast', 2)
    for clip in (number for number in settings.batch if number in (1, 8)):
        videomt_speed.bench_network(bench, cfg, 'videomt', size, precision, regime, 'graphs' if cuda else 'eager', clip,
                                    burst)
        videomt_speed.bench_online(bench, cfg, 'videomt', size, precision, regime, clip, burst)


def _gpus(bench: Bench, settings: Settings) -> None:
    """Training on 1, 2, 4, ... GPUs, each in a run of benchmark.py of its own, without data."""
    available = torch.cuda.device_count() if bench.device.type == 'cuda' else 0
    if available < 2:
        raise NotMeasured('needs at least 2 GPUs')
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'numbers.json')
        for gpus in (number for number in (1, 2, 4, 8) if number <= available):
            command = [str(ROOT / 'tools/analysis_tools/benchmark.py'),
                       str(ROOT / 'configs' / settings.configs['memcnp']), '--train', '--precision', settings.precision,
                       '--size', _times(settings.size), '--gpus', str(gpus), '--warmup', str(bench.warmup),
                       '--repeats', str(bench.repeats), '--out', str(out)]
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            bench.rows += json.loads(out.read_text())['rows']


def _times(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))


MEASURES: dict[str, Callable[[Bench, Settings], None]] = dict(
    training=_training, loading=_loading, test=_test, test_files=_test_files, video=_video, scoring=_scoring, rle=_rle,
    association=_association, correlation=_correlation, kernels=_kernels, sipmask=partial(_model, 'sipmask'),
    masktrack=partial(_model, 'masktrack'), fcos=partial(_model, 'fcos'), torchvision=partial(_model, 'torchvision'),
    videomt=_videomt, sizes=_sizes, gpus=_gpus)


HOST_PATHS = ('video', 'scoring', 'association')  # do not use the GPU: no waiting for it, no figures of its memory


@dataclass
class Outcome:
    """What the suite did: reasons why paths could not be measured here, errors of paths, and seconds, by path."""

    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_suite(bench: Bench, settings: Settings, paths: Sequence[str], save: Callable[[Outcome], None]) -> Outcome:
    """Measure paths. The error of a path does not prevent the measurement of the others.

    Args:
        bench: collects the rows, to which ``path`` is added.
        settings: see :class:`Settings`.
        paths: names in :data:`MEASURES`.
        save: called after each path with what was done so far, so that nothing measured is lost.
    """
    outcome, device = Outcome(), bench.device
    for path in paths:
        first, bench.original, start = len(bench.rows), settings.original, time.perf_counter()
        bench.device = torch.device('cpu') if path in HOST_PATHS else device
        say(f'{path} …')
        try:
            MEASURES[path](bench, settings)
        except NotMeasured as error:
            outcome.skipped[path] = str(error)
            say(f'{path} is not measured: {error}')
        except Exception as error:
            outcome.failed[path] = str(error) if isinstance(error, UserError) else f'{type(error).__name__}: {error}'
            if not isinstance(error, UserError):
                traceback.print_exc()
            say(f'{path} failed: {outcome.failed[path]}')
        outcome.seconds[path] = round(time.perf_counter() - start, 1)
        say(f'{path}: {outcome.seconds[path]:.1f} s')
        bench.rows[first:] = [dict(path=path, **row) for row in bench.rows[first:]]
        gc.collect()  # models are in reference cycles; their memory would count as that of the next path
        if device.type == 'cuda':
            torch.cuda.empty_cache()
        save(outcome)
    return outcome
