"""Measures of load: what benchmark_load.py prints is right, on small inputs; memory bounds hold."""
import pytest

from mmdet.errors import UserError
from tools.analysis_tools import benchmark_load
from tools.analysis_tools.measures.load import measure_scoring, measure_test_set, measure_tracker


def test_objects_that_leave_and_return_keep_their_ids():
    numbers = measure_tracker(frames=400, objects=60, at_once=20, max_tracks=500)
    assert numbers['right ids (%)'] == 100 and numbers['most tracks'] == 60
    assert 15 < numbers['detections a frame'] < 25
    assert numbers['ms a frame, mean'] > 0


def test_memory_of_tracks_is_bounded():
    numbers = measure_tracker(frames=200, objects=60, at_once=20, max_tracks=25)
    assert numbers['most tracks'] == 25


def test_test_set_is_scored_and_memory_stays_flat(tmp_path):
    numbers = measure_test_set(frames=3000, out=str(tmp_path / 'x.pkl'))
    assert numbers['AP (%)'] == pytest.approx(100) and numbers['frames'] == 3000
    assert numbers['MiB more at the end'] < 40
    assert (tmp_path / 'x.pkl').exists()
    assert numbers['MiB after a quarter'] > 0


def test_results_of_any_size_are_scored():
    numbers = measure_scoring(videos=3, length=5, tracks=4)
    assert numbers['tracks'] == 12 and 30 < numbers['AP (%)'] < 100
    assert numbers['seconds of checks and scoring'] > 0


def test_command_prints_numbers(capsys):
    assert benchmark_load.main(['tracker', '--frames', '30', '--objects', '10', '--at_once', '5']) == 0
    assert 'ms a frame, mean' in capsys.readouterr().out


def test_less_than_a_video_is_one_line():
    with pytest.raises(UserError, match='--frames 50: '):
        benchmark_load.main(['testset', '--frames', '50'])
