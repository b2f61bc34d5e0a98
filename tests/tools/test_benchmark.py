"""benchmark.py: its training measures run, count pairs and name their settings."""
import importlib.util
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from mmdet.apis import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('benchmark', ROOT / 'tools/analysis_tools/benchmark.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench(script, monkeypatch):
    monkeypatch.setattr(script, 'TRAIN_REPEATS', 1)
    return script.Bench(torch.device('cpu'), 1, 1, (32, 64))


def test_training_steps_with_and_without_checkpointing(script, bench):
    cfg = load_config(ROOT / 'configs/memcnp_toy.py')
    script.bench_train(bench, cfg, Namespace(precision=['float32'], pairs=2, loading=False), (32, 64))
    assert [(row['checkpointing'], row['graphs']) for row in bench.rows] == [('off', 'off'), ('on', 'off')]
    for row in bench.rows:
        assert row['per_second'] == pytest.approx(2000 / row['median_ms'])
    assert bench.table().count('training step') == 2


def test_training_with_loading(script, bench, toy_config):
    cfg = load_config(toy_config, [('train_dataloader.num_workers', '0'),
                                   ('train_dataloader.persistent_workers', 'False')])
    script.bench_loading(bench, cfg, Namespace(precision=['float32'], loading=True))
    (row,) = bench.rows
    assert row['what'] == 'training with loading' and row['pairs'] == cfg.train_dataloader.batch_size
    assert row['min_ms'] <= 1000 * row['pairs'] / row['per_second'] <= row['max_ms']
