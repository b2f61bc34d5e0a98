"""publish_model.py: the weights arrive, in half the size, and nothing else."""

import pytest
import torch

from mmdet.checkpoint import load_model
from mmdet.errors import UserError
from tests.helpers.models import build_memcnp
from tools.model_converters.publish_model import main, publish


def test_half_precision_weights_load_into_the_model(tmp_path):
    model = build_memcnp(embed_dims=32, channels=32)
    source, target = tmp_path / 'epoch_1.pth', tmp_path / 'small.pth'
    torch.save({'meta': {'epoch': 1, 'seed': 3, 'dataset_meta': {'classes': ('a', 'b')}}, 'optimizer': {'x': 1},
                'state_dict': model.state_dict()}, source)
    assert main([str(source), str(target), '--half']) == 0
    published = torch.load(target, weights_only=True)
    assert published['meta'] == {'epoch': 1, 'dataset_meta': {'classes': ('a', 'b')}}
    assert set(published) == {'meta', 'state_dict'}
    assert target.stat().st_size < 0.6 * source.stat().st_size
    other = build_memcnp(embed_dims=32, channels=32)
    load_model(other, target)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].half().to(tensor.dtype)), name


def test_a_missing_file_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / 'no.pth'), str(tmp_path / 'x.pth')])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith('error: ') and said.count('\n') == 1 and 'no such file' in said


def test_the_training_checkpoint_is_not_overwritten(tmp_path, monkeypatch, capsys):
    source = tmp_path / 'epoch_1.pth'
    torch.save({'optimizer': {'x': 1}, 'state_dict': {'weight': torch.zeros(2)}}, source)
    before = source.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='would be overwritten'):
        publish(str(source), 'epoch_1.pth')
    with pytest.raises(SystemExit):
        main([str(source), 'epoch_1.pth'])
    assert 'would overwrite the file that is read as source' in capsys.readouterr().err
    assert source.read_bytes() == before
