"""tools/analysis_tools/memory_report.py on a tiny untrained model: numbers, pictures, and models without a memory."""
import json

import cv2
import pytest
import torch

from mmdet.apis import init_model, load_config
from mmdet.errors import UserError
from mmdet.models.memory import unit_sets
from tools.analysis_tools.memory_report import main


@pytest.fixture
def checkpoint(toy_config, tmp_path):
    torch.manual_seed(0)
    torch.save(dict(state_dict=init_model(toy_config, device='cpu').state_dict()), tmp_path / 'tiny.pth')
    return tmp_path / 'tiny.pth'


@pytest.mark.slow
def test_numbers_and_pictures(toy_config, checkpoint, tmp_path, capsys):
    arguments = [str(toy_config), str(checkpoint), '--out', str(tmp_path / 'memory'), '--frames', '3', '--maps', '2']
    assert main([*arguments, '--device', 'cpu']) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('128 units, 3 frames') and 'stride 64' in printed and 'context variation' in printed
    numbers = json.loads((tmp_path / 'memory/memory.json').read_text())
    assert [level['stride'] for level in numbers['levels']] == [8, 16, 32, 64]
    # 160×96 resized to 320×192: 24×40 locations at stride 8
    assert [level['locations'] for level in numbers['levels']] == [3 * size for size in (960, 240, 60, 15)]
    for level in numbers['levels']:
        assert sum(level['wins']) == pytest.approx(1) and sum(level['weights']) == pytest.approx(1, abs=1e-4)
        assert 1 <= level['effective_units'] <= level['units_used'] <= 128 and 1 <= level['read_units'] <= 128
    assert len(numbers['norms']) == numbers['units'] == 128
    for name in ('units', 'maps'):
        assert cv2.imread(str(tmp_path / f'memory/{name}.png')).std() > 10


def test_units_of_each_level(toy_config, tmp_path, capsys):
    option = ('model.bbox_head.memory.per_level', 'True')
    model = init_model(load_config(toy_config, [option]), device='cpu')
    for level, units in enumerate(unit_sets(model.bbox_head.mem).data):
        units[:, :-4] = torch.nn.functional.normalize(units[:, :-4], dim=1) * (1 + level)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'tiny.pth')
    main([str(toy_config), str(tmp_path / 'tiny.pth'), '--out', str(tmp_path), '--device', 'cpu', '--frames', '1',
          '--cfg-options', '='.join(option)])
    printed = capsys.readouterr().out
    assert printed.startswith('128 units for each level, 1 frame; lengths of the units\' feature parts 1 to 4')
    assert [line.split()[-4:] for line in printed.splitlines() if 'unit length' in line] == 2 * [['1', '2', '3', '4']]
    numbers = json.loads((tmp_path / 'memory.json').read_text())
    assert 'norms' not in numbers
    for stride, level in enumerate(numbers['levels'], start=1):
        assert level['norms'] == pytest.approx([stride] * 128) and len(level['wins']) == 128


@pytest.mark.slow
def test_frames_are_those_there_are(toy_config, checkpoint, tmp_path, capsys):
    main([str(toy_config), str(checkpoint), '--out', str(tmp_path), '--device', 'cpu'])
    assert capsys.readouterr().out.startswith('128 units, 8 frames')


def test_models_without_a_memory(toy_config, tmp_path):
    cfg = load_config(toy_config, [('model.bbox_head.num_units', '0')])
    torch.save(dict(state_dict=init_model(cfg, device='cpu').state_dict()), tmp_path / 'none.pth')
    with pytest.raises(UserError, match='has no memory; give a config of MemCNP with num_units above 0'):
        main([str(toy_config), str(tmp_path / 'none.pth'), '--out', str(tmp_path / 'memory'), '--device', 'cpu',
              '--cfg-options', 'model.bbox_head.num_units=0'])
    assert not (tmp_path / 'memory').exists()
