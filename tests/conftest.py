"""Shared by all tests: a tiny toy set, and the command lines run as a user runs them."""
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='session')
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an easy toy set: 3 training and 2 validation videos of 4 frames, 160×96 pixels, categories 5, 6, 7."""
    from mmdet.testing.toy_vis import ToyVIS, make_toy_vis
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


@pytest.fixture(scope='session')
def command() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a script of the project in a process of its own, on the CPU."""

    def run(*args: object, launcher: tuple[str, ...] = (), check: bool = True) -> subprocess.CompletedProcess:
        environment = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
        done = subprocess.run([sys.executable, *launcher, *map(str, args)], cwd=ROOT, env=environment, text=True,
                              capture_output=True, timeout=300)
        if check:
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    return run
