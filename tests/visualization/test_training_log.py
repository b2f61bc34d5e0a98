"""The JSON log of a training, including truncated ones."""
import json

import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.visualization.training_log import read_scalars


@pytest.fixture
def log(tmp_path):
    path = tmp_path / 'scalars.json'
    lines = [
        json.dumps({'lr': 0.01 / step, 'loss': 3 / step, 'loss_cls': 1 / step, 'time': 0.1, 'iter': step, 'step': step})
        for step in range(1, 50)]
    lines.insert(20, json.dumps({'youtube_vis/AP': 0.3, 'step': 20}))
    path.write_text('\n'.join(lines))
    return path


def test_read_scalars(log):
    curves = read_scalars(log)
    assert set(curves) == {'lr', 'loss', 'loss_cls', 'youtube_vis/AP'}
    np.testing.assert_allclose(curves['loss'][:2], [[1, 3], [2, 1.5]])


def test_log_cut_off_by_an_interrupt(log):
    log.write_text(log.read_text()[:-9])
    assert len(read_scalars(log)['loss']) == 48


@pytest.mark.parametrize(('text', 'message'), [
    ('{"loss": 1}\n{"loss": 1}', 'line 1'), ('[1]\n{"step": 1}', 'line 1'), ('', 'no numbers'), (None, 'cannot read')])
def test_wrong_log(tmp_path, text, message):
    path = tmp_path / 'scalars.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_scalars(path)
