"""The measure of VidEoMT's speed, on small frames."""
import json

import pytest
import torch

from tools.analysis_tools import benchmark_videomt


def test_rows_and_memory(tmp_path, capsys):
    out = tmp_path / 'speed.json'
    modes = ['eager'] if not torch.cuda.is_available() else ['eager', 'graphs']
    assert benchmark_videomt.main(
        ['configs/videomt_toy.py', '--size', '64x96', '--original', '90x120', '--clip', '1', '2', '--precision',
         'float32', '--regime', 'autocast', '--mode', *modes, '--burst', '2', '--warmup', '1', '--repeats', '2',
         '--frames', '20', '--skip-transformers', '--out', str(out)]) == 0
    found = json.loads(out.read_text())
    kinds = {(row['what'], row['clip']) for row in found['rows']}
    assert kinds == {(what, clip) for what in ('network', 'up to RLE') for clip in (1, 2)}
    assert all(row['per_second'] > 0 for row in found['rows'])
    assert [row['frame'] for row in found['memory']] == list(range(2, 21, 2))
    assert '| network | model videomt_toy' in capsys.readouterr().out


def test_wrong_size(capsys):
    with pytest.raises(SystemExit):
        benchmark_videomt.parse_args(['--size', '448'])
    assert 'the height first' in capsys.readouterr().err
