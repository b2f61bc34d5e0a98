"""publish_model.py: the weights arrive, in half the size, and nothing else."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet.checkpoint import load_model
from tests.helpers.models import build_memcnp

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'model_converters' / 'publish_model.py'


@pytest.mark.slow
def test_half_precision_weights_load_into_the_model(tmp_path):
    model = build_memcnp(embed_dims=32, channels=32)
    source, target = tmp_path / 'epoch_1.pth', tmp_path / 'small.pth'
    torch.save({'meta': {'epoch': 1, 'seed': 3, 'dataset_meta': {'classes': ('a', 'b')}}, 'optimizer': {'x': 1},
                'state_dict': model.state_dict()}, source)
    subprocess.run([sys.executable, TOOL, source, target, '--half'], check=True, capture_output=True)
    published = torch.load(target, weights_only=True)
    assert published['meta'] == {'epoch': 1, 'dataset_meta': {'classes': ('a', 'b')}}
    assert set(published) == {'meta', 'state_dict'}
    assert target.stat().st_size < 0.6 * source.stat().st_size
    other = build_memcnp(embed_dims=32, channels=32)
    load_model(other, target)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].half().to(tensor.dtype)), name


def test_a_missing_file_is_one_line(tmp_path):
    run = subprocess.run([sys.executable, TOOL, tmp_path / 'no.pth', tmp_path / 'x.pth'], capture_output=True,
                         text=True)
    assert run.returncode == 2
    assert run.stderr.startswith('error: ') and run.stderr.count('\n') == 1


@pytest.mark.slow
def test_the_training_checkpoint_is_not_overwritten(tmp_path):
    source = tmp_path / 'epoch_1.pth'
    torch.save({'optimizer': {'x': 1}, 'state_dict': {'weight': torch.zeros(2)}}, source)
    before = source.read_bytes()
    run = subprocess.run([sys.executable, TOOL, source, 'epoch_1.pth'], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 2 and 'would be overwritten' in run.stderr and run.stderr.count('\n') == 1
    assert source.read_bytes() == before
