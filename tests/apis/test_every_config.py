"""Every config of the tree is read and checked: names, constructor arguments, what training and testing need."""
from pathlib import Path

import pytest

from mmdet.apis import load_config

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_config(path):
    cfg = load_config(path)
    assert cfg.model.type
    for name in ('train_dataloader', 'test_dataloader', 'test_evaluator', 'optim_wrapper', 'train_cfg', 'test_cfg'):
        assert cfg.get(name), f'{path.name} has no {name}'
    assert cfg.test_dataloader.dataset.test_mode
    assert cfg.test_evaluator.ann_file.startswith('data/')
