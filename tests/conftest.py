"""Shared by all tests: the device, float32 without TF32, a tiny toy set, the command lines run as a user runs them.

A test runs on the CPU, on machines with a GPU too, unless it is marked ``cuda``; ``cuda(2)`` needs two GPUs.
"""
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import base_dataset
from mmengine.device import utils as mmengine_device
from torch.utils._triton import has_triton

ROOT = Path(__file__).parent.parent
LEAST_COVERED = 90  # percent; as in the Makefile, there of all files together


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Where coverage is written to a JSON file (``make test``): the files of which less than 90 % are tested."""
    report = (getattr(config.option, 'cov_report', None) or {}).get('json')
    if report and Path(report).is_file():
        for name, file in json.loads(Path(report).read_text())['files'].items():
            if file['summary']['percent_covered'] < LEAST_COVERED:
                terminalreporter.write_line(f'{name}: {file["summary"]["percent_covered_display"]} % tested')


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist distribute files in the order below instead of by their number of tests."""
    if hasattr(config.option, 'loadscopereorder'):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests without their GPUs. Files of slow tests run first, so that at the end no worker runs one alone."""
    duration: Counter[Path] = Counter()  # estimate for the order: a test marked slow takes as long as 10 on a GPU
    for item in items:
        needed = 0
        if mark := item.get_closest_marker('cuda'):
            needed = mark.args[0] if mark.args else 1
        if torch.cuda.device_count() < needed:
            item.add_marker(pytest.mark.skip(reason='needs a GPU' if needed == 1 else f'needs {needed} GPUs'))
        else:
            duration[item.path] += 10 * bool(item.get_closest_marker('slow')) + bool(needed)
    items.sort(key=lambda item: -duration[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hide the GPUs from tests that are not marked ``cuda``, and from the fixtures that these set up.

    After every test, TF32 is as it was before: commands that run in the process of the tests may disable it.
    """
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker('cuda') and torch.cuda.is_available():
            patch.setattr(torch.cuda, 'is_available', lambda: False)
            patch.setattr(torch.cuda, 'device_count', lambda: 0)
            patch.setattr(mmengine_device, 'DEVICE', 'cpu')
        try:
            return (yield)
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
            has_triton.cache_clear()  # it caches whether there is a GPU


@pytest.fixture(scope='session', autouse=True)
def no_layout_of_configs() -> Iterator[None]:
    """Configs are written without YAPF's layout, which takes most of the time of a training of two steps."""
    from yapf.yapflib import yapf_api
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda text, **options: (text, False))
        yield


@pytest.fixture(scope='session', autouse=True)
def no_garbage_collection_by_data_sets() -> Iterator[None]:
    """mmengine collects garbage for each data set, which takes 0.2 s with all that a process of tests has imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_dataset, 'gc', SimpleNamespace(collect=lambda: 0))
        yield


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, exact_float32: None) -> str:
    """Each device in turn, in float32 without TF32."""
    return request.param


@pytest.fixture
def exact_float32() -> Iterator[None]:
    """Float32 without TF32 on GPUs, for comparisons with golden numbers and between devices."""
    from mmdet.engine import use_full_float32
    former = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    use_full_float32()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = former


@pytest.fixture(scope='session')
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an easy toy set: 3 training and 2 validation videos of 4 frames, 160×96 pixels, categories 5, 6, 7."""
    from mmdet.datasets.toy import ToyVIS, make_toy_vis
    root = tmp_path_factory.mktemp('toy')
    make_toy_vis(root, ToyVIS(videos=3, val_videos=2, frames=4, size=(160, 96), classes=3, easy=True,
                              first_category_id=5), workers=1)
    return root


@pytest.fixture(scope='session')
def toy_config(toy_root: Path) -> Path:
    """A config file for it: a model of few channels, two epochs of two steps."""
    path = toy_root / 'tiny.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/memcnp_toy.py'
model = dict(backbone=dict(embed_dims=32, num_heads=2, depth=4), neck=dict(in_channels=[32, 32, 32], out_channels=32),
             bbox_head=dict(in_channels=32, test_cfg=dict(score_thr=0.0)))
train_dataloader = dict(num_workers=1, dataset=dict(data_root='{toy_root}', indices=8))
val_dataloader = dict(num_workers=1, dataset=dict(data_root='{toy_root}'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{toy_root}/annotations/instances_valid.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
""")
    return path


def _environment(on_gpu: bool) -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore',
            **({} if on_gpu else {'CUDA_VISIBLE_DEVICES': ''})}


@pytest.fixture(scope='session')
def command() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a script of the project in a process of its own, on the CPU unless told otherwise."""

    def run(*args: object, launcher: tuple[str, ...] = (), check: bool = True,
            on_gpu: bool = False) -> subprocess.CompletedProcess:
        done = subprocess.run([sys.executable, *launcher, *map(str, args)], cwd=ROOT, env=_environment(on_gpu),
                              text=True, capture_output=True, timeout=300)
        if check:
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope='session')
def killed() -> Callable[..., int]:
    """Runs a script of the project, sends it a signal as soon as a file is there, and gives its exit status."""

    def run(*args: object, once: Path, number: int = signal.SIGKILL, on_gpu: bool = False) -> int:
        process = subprocess.Popen([sys.executable, *map(str, args)], cwd=ROOT, env=_environment(on_gpu),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while not once.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(number)
            status = process.wait(60)
        finally:
            process.kill()
        assert once.exists()
        return status

    return run


@pytest.fixture(scope='session')
def logged_losses() -> Callable[[Path], dict[int, float]]:
    """Reads the loss of each step from the JSON logs of a working directory."""

    def read(folder: Path) -> dict[int, float]:
        lines = [json.loads(line) for path in folder.glob('*/vis_data/*.json') if path.name != 'scalars.json'
                 for line in path.read_text().splitlines()]
        return {line['step']: line['loss'] for line in lines if 'loss' in line}

    return read
