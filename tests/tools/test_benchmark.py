"""benchmark.py: its measures run, count frames and pairs, name their settings and are printed as they come."""
import json
import multiprocessing
import subprocess
import sys
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import torch
from matplotlib.figure import Figure

from mmdet.apis import load_config
from mmdet.errors import UserError
from tools.analysis_tools import benchmark
from tools.analysis_tools.measures import speed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(speed, 'TRAIN_REPEATS', 1)
    return speed.Bench(torch.device('cpu'), 1, 1, (32, 64))


def test_training_steps_with_and_without_checkpointing(bench):
    cfg = load_config(ROOT / 'configs/memcnp_toy.py')
    speed.bench_train(bench, cfg, Namespace(precision=['float32'], pairs=2, loading=False), (32, 64))
    assert [(row['checkpointing'], row['graphs']) for row in bench.rows] == [('off', 'off'), ('on', 'off')]
    for row in bench.rows:
        assert row['per_second'] == pytest.approx(2000 / row['median_ms'])
    assert bench.table().count('training step') == 2


def test_clips_overlap():
    calls = []
    speed.overlap_clips(lambda: calls.append('launch') or (lambda: calls.append('complete')))
    assert calls[:3] == ['launch', 'launch', 'complete']
    assert calls.count('launch') == calls.count('complete') == speed.OVERLAPPED


@pytest.mark.slow
def test_training_with_loading(bench, toy_config):
    cfg = load_config(toy_config, [('train_dataloader.num_workers', '0'),
                                   ('train_dataloader.persistent_workers', 'False')])
    speed.bench_loading(bench, cfg, Namespace(precision=['float32'], loading=True))
    (row,) = bench.rows
    assert row['what'] == 'training with loading' and row['pairs'] == cfg.train_dataloader.batch_size
    assert row['min_ms'] <= 1000 * row['pairs'] / row['per_second'] <= row['max_ms']


def test_a_run_that_is_cut_off_has_printed_what_it_measured(bench, capsys):
    bench.time(lambda: None, 'first', 4, frames=4, precision='tf32')
    with pytest.raises(KeyboardInterrupt):
        bench.time(lambda: (_ for _ in ()).throw(KeyboardInterrupt), 'second')
    (line,) = capsys.readouterr().err.splitlines()
    row = bench.rows[0]
    assert line.startswith(f'first, frames 4, precision tf32: median {row["median_ms"]:.2f} ms, ')
    assert line.endswith(f' {row["per_second"]:.1f} per second')


@pytest.mark.parametrize(('seconds', 'at_least', 'untimed', 'timed'), [
    (1000, 0, 5, 8),  # as asked for
    (4.5, 0, 5, 5),  # until the time is over; a second call of 1 s is short enough for all of the warm-up
    (0.5, 0, 2, 3),  # a slow function: two calls before, three timed ones
    (0.5, 7, 2, 7)])  # as many as the measurement needs
def test_slow_functions_are_called_less_often(seconds, at_least, untimed, timed, monkeypatch):
    calls = []
    monkeypatch.setattr(speed.time, 'perf_counter', lambda: float(len(calls)))  # a call takes a second
    bench = speed.Bench(torch.device('cpu'), 5, 8, (32, 64), seconds=seconds)
    bench.time(lambda: calls.append('call'), 'step', at_least=at_least)
    assert bench.rows[0]['repeats'] == timed and len(calls) == untimed + timed


def test_memory_is_what_the_timed_calls_hold_and_what_the_gpu_gives_for_it(monkeypatch, capsys):
    """Memory that only the warming up needed is given back before."""
    calls = []
    for name, result in (('empty_cache', None), ('reset_peak_memory_stats', None), ('synchronize', None),
                         ('max_memory_allocated', 2 ** 30), ('max_memory_reserved', 3 * 2 ** 30)):
        monkeypatch.setattr(torch.cuda, name, lambda name=name, result=result: calls.append(name) or result)
    bench = speed.Bench(torch.device('cuda'), 2, 1, (32, 64))
    bench.time(lambda: calls.append('call'), 'step', precision='tf32')
    (row,) = bench.rows
    assert (row['allocated_gib'], row['reserved_gib']) == (1, 3)
    timed = ['synchronize', 'call', 'synchronize']
    assert calls == [*timed, *timed, 'empty_cache', 'call', 'reset_peak_memory_stats', *timed, 'max_memory_allocated',
                     'max_memory_reserved']
    heading, _, line = bench.table().splitlines()
    assert heading.endswith('| GiB allocated | GiB reserved |') and line.endswith('| 1.0 | 3.0 |')
    assert 'precision tf32' in line
    assert capsys.readouterr().err.endswith(', 1.0 GiB allocated, 3.0 GiB reserved\n')


@pytest.mark.slow
def test_loading_is_measured_as_training_does_it(bench, toy_config, monkeypatch):
    """The next batch is made ready during a step; the loader's passes end with the measure."""
    passes = []

    @contextmanager
    def prefetched(batches, loader, model, preprocessor):
        passes.append('begun')
        assert loader.num_workers == 1 and not hasattr(model, 'module')
        try:
            yield batches
        finally:
            passes.append('ended')

    monkeypatch.setattr(speed, 'prefetched', prefetched)
    speed.bench_loading(bench, load_config(toy_config), Namespace(precision=['float32'], loading=True))
    assert passes == ['begun', 'ended'] * (len(passes) // 2) and len(passes) >= 6
    assert not multiprocessing.active_children()


def test_other_processes_than_the_first_print_nothing(bench, capsys, monkeypatch):
    monkeypatch.setattr(speed, 'get_rank', lambda: 1)
    bench.time(lambda: None, 'first')
    assert not capsys.readouterr().err and len(bench.rows) == 1


def test_command_measures_clips_and_stages(toy_config, tmp_path, capsys):
    numbers, picture = tmp_path / 'new/numbers.json', tmp_path / 'new/picture.png'
    status = benchmark.main([str(toy_config), '--test', '--stages', '--size', '64x96', '--original', '48x72', '--batch',
                             '1', '2', '--precision', 'float32', 'amp', '--warmup', '1', '--repeats', '1', '--out',
                             str(numbers), '--plot', str(picture)])
    out, err = capsys.readouterr()
    rows = json.loads(numbers.read_text())['rows']
    assert status == 0 and len(rows) == 2 * 2 * (1 + 6)
    assert [(row['what'], row['frames'], row['precision']) for row in rows[:5]] == [
        ('test clip', 1, 'float32'), ('test clip', 2, 'float32'), ('test clip', 1, 'amp'), ('test clip', 2, 'amp'),
        ('backbone', 1, 'float32')]
    assert {row['what'] for row in rows[4:]} == {'backbone', 'neck', 'head', 'boxes, masks', 'copy, RLE', 'tracking'}
    for row in rows:
        assert row['per_second'] == pytest.approx(1000 * row['frames'] / row['median_ms'])
        assert f'| {row["what"]} |' in out and f'{row["what"]}, frames {row["frames"]}' in err
    assert cv2.imread(str(picture)) is not None


def test_models_without_stages_say_so(bench, capsys):
    cfg = load_config(ROOT / 'configs/_base_/models/masktrack_r50.py')
    speed.bench_stages(bench, cfg, Namespace(precision=['float32'], batch=[1]), (32, 64))
    assert not bench.rows and 'MaskTrackRCNN has no stages to measure' in capsys.readouterr().err


def test_ticks_are_whole_numbers(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *_, **__: drawn.append(figure))
    benchmark.plot([dict(what='test clip', frames=2 ** power, size='480x864', precision=name, per_second=10. + power)
                    for power in range(6) for name in ('tf32', 'amp')], tmp_path / 'x.png')
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ['1', '2', '4', '8', '16', '32']
    assert not axes.get_xticks(minor=True).size and len(axes.get_lines()) == 2


@pytest.mark.parametrize('flag', ['--out', '--plot'])
def test_paths_are_tried_before_anything_is_measured(flag, tmp_path):
    with pytest.raises(UserError, match=f'{flag} .*Is a directory'):
        benchmark.main([str(ROOT / 'configs/memcnp_toy.py'), flag, str(tmp_path)])


def test_flags_are_read_without_torch_and_know_all_precisions():
    """--help is there at once."""
    code = ('import sys; from tools.analysis_tools.benchmark import parse_args; parse_args(["setup.py", "--precision", '
            f'*{list(speed.PRECISIONS)}]); print(*{{"torch", "matplotlib", "mmengine", "numpy"}} & set(sys.modules))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ''
