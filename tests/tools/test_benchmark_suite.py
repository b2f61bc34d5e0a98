"""benchmark.py without a config measures every public path; --against compares two of its files."""
import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.errors import UserError
from mmdet.models.task_modules.box_convention import BoxConvention
from mmdet.registry import DATASETS
from tools.analysis_tools import benchmark
from tools.analysis_tools.measures import comparison, hardware, suite
from tools.analysis_tools.measures.growth_plot import growth_figure
from tools.analysis_tools.measures.kernels import Ceilings, count_operations
from tools.analysis_tools.measures.random_weights import build_model
from tools.analysis_tools.measures.speed import Bench
from tools.analysis_tools.measures.synthetic import synthetic_clips
from tools.analysis_tools.measures.testing_process import repeat_videos, run_test


def row(what='step', median=10.0, spread=1.0, **settings):
    return dict(what=what, **settings, median_ms=median, q1_ms=median - spread, q3_ms=median + spread)


def record(*rows, **changes):
    return dict(machine=dict(gpu=None, cpu='A', threads=2), versions={}, commit='abc1234', hardware='A, 2 threads',
                rows=list(rows)) | changes


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    """The file and the plot of the quick suite."""
    folder = tmp_path_factory.mktemp('suite')
    out, plot = folder / 'new.json', folder / 'growth.png'
    assert benchmark.main(['--quick', '--repeats', '1', '--out', str(out), '--plot', str(plot)]) == 0
    return out, plot


def test_every_path_has_rows_with_hardware_versions_commit_median_and_spread(measured):
    out, plot = measured
    found = json.loads(out.read_text())
    assert {row['path'] for row in found['rows']} == set(benchmark.PATHS) - {'gpus'}
    assert found['skipped'] == {'gpus': 'needs at least 2 GPUs'}
    assert found['machine'] == hardware.machine(torch.device('cpu')) and found['machine']['gpu'] is None
    assert found['versions']['torch'] == torch.__version__ and found['commit'] == hardware.commit()
    for measured_row in found['rows']:
        assert (0 < measured_row['min_ms'] <= measured_row['q1_ms'] <= measured_row['median_ms']
                <= measured_row['q3_ms'] <= measured_row['max_ms'])
    assert plot.stat().st_size > 10_000
    keys = [comparison._key(measured_row) for measured_row in found['rows']]
    assert len(set(keys)) == len(keys)  # else a comparison would mix rows up


def test_kernels_have_bytes_operations_and_a_floor(measured):
    rows = {row['what']: row for row in json.loads(measured[0].read_text())['rows'] if row['path'] == 'kernels'}
    ceilings = [rows.pop('ceiling: copy'), rows.pop('ceiling: matrix product')]
    rates = [ceilings[0]['bytes'] / ceilings[0]['median_ms'], ceilings[1]['operations'] / ceilings[1]['median_ms']]
    assert rows.keys() == {'deformable convolution', 'group norm, ReLU', 'mask logits', 'residual, layer norm',
                           'overlaps, Fast NMS', 'attention', 'network, eager'}
    for kernel in rows.values():
        assert kernel['floor_ms'] == pytest.approx(max(kernel['bytes'] / rates[0], kernel['operations'] / rates[1]))


def test_floor_is_the_slower_of_bytes_and_operations():
    ceilings = Ceilings(2e9, {torch.float32: 1e12})
    assert ceilings.floor(4_000_000, 1_000_000, torch.float32) == pytest.approx(2.0)  # ms, of the bytes
    assert ceilings.floor(4, 3_000_000_000, torch.float32) == pytest.approx(3.0)


def test_operations_of_products_convolutions_and_attention_are_counted():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert count_operations(lambda: a @ b) == 2 * 3 * 5 * 7
    image, weight = torch.ones(1, 2, 6, 6), torch.ones(4, 2, 3, 3)
    assert count_operations(lambda: F.conv2d(image, weight)) == 2 * 16 * 4 * 2 * 9
    queries = torch.ones(2, 3, 8, 4)  # 2·3 heads, 8 tokens of 4 channels
    with torch.no_grad():
        assert count_operations(lambda: F.scaled_dot_product_attention(queries, queries, queries)) == 4 * 6 * 64 * 4


def test_every_path_of_the_command_is_in_the_suite():
    assert tuple(suite.MEASURES) == benchmark.PATHS


def test_the_page_of_benchmarks_has_a_row_for_every_path():
    rows = [line for line in (suite.ROOT / 'docs/benchmarks.md').read_text().splitlines() if line.startswith('| `')]
    assert [path for path in benchmark.PATHS if not any(f'`{path}`' in row for row in rows)] == []


def test_a_file_compared_with_itself_has_not_changed(measured, capsys):
    out = str(measured[0])
    assert benchmark.main([out, '--against', out]) == 0
    printed = capsys.readouterr().out
    assert '| association: association |' in printed and ' 1.000 |' in printed
    assert 'slower' not in printed and 'faster' not in printed and 'only' not in printed


def test_what_changed_by_more_than_the_spread_is_marked():
    old = [row('a', 10), row('b', 10), row('c', 10), row('d', 10, frames=1)]
    new = [row('a', 12.5), row('b', 11.5), row('c', 7), row('d', 10, frames=2)]
    a, b, c = comparison.changes(new, old)
    assert a.ratio == 1.25 and (a.low, a.high) == (11.5 / 11, 13.5 / 9) and a.verdict == 'slower'
    assert b.verdict == '' and c.verdict == 'faster'
    table = comparison.comparison_table(record(*new), record(*old))
    assert '| a |  | 10.000 | 12.500 | 1.250 | 1.045–1.500 | slower |' in table
    assert 'only old: d, frames 1' in table and 'only new: d, frames 2' in table


def test_other_hardware_is_refused_before_anything_is_measured(tmp_path, capsys):
    old, new = tmp_path / 'old.json', tmp_path / 'new.json'
    old.write_text(json.dumps(record(row(), machine=dict(gpu='H100', cpu='A', threads=2))))
    new.write_text(json.dumps(record(row())))
    with pytest.raises(UserError, match=r'old.json was measured on other hardware: gpu H100 there, None here; .*'
                                        r'--any_hardware$'):
        benchmark.main([str(new), '--against', str(old)])
    with pytest.raises(UserError, match='other hardware'):
        benchmark.main(['--quick', '--paths', 'rle', '--against', str(old)])
    assert not capsys.readouterr().err
    assert benchmark.main([str(new), '--against', str(old), '--any_hardware']) == 0
    old.write_text(json.dumps(record(row(), machine=dict(gpu=None, cpu='A', cores=16, threads=2))))
    assert benchmark.main([str(new), '--against', str(old)]) == 0  # older records do not have the number of cores
    new.write_text(json.dumps(record(row(), machine=dict(gpu=None, cpu='A', cores=2, threads=2))))
    with pytest.raises(UserError, match='cores 16 there, 2 here'):
        benchmark.main([str(new), '--against', str(old)])


@pytest.mark.parametrize('content', ['[', '[]', '{"rows": []}', '{"machine": {}, "rows": [{"what": "a"}]}'])
def test_other_files_are_one_line(content, tmp_path):
    path = tmp_path / 'old.json'
    path.write_text(content)
    with pytest.raises(UserError, match=r'old.json (cannot be read|has no machine)'):
        benchmark.main([str(path), '--against', str(path)])


@pytest.mark.parametrize(('error', 'reason'), [
    (UserError('x.json has 3 categories'), 'x.json has 3 categories'),
    (RuntimeError('no such thing'), 'RuntimeError: no such thing')])
def test_a_path_that_fails_does_not_end_the_others(monkeypatch, tmp_path, capsys, error, reason):
    def fail(bench, settings):
        bench.add([1.0], 'before the error')
        raise error

    monkeypatch.setitem(suite.MEASURES, 'scoring', fail)
    out = tmp_path / 'x.json'
    assert benchmark.main(['--quick', '--repeats', '1', '--paths', 'scoring', 'rle', '--out', str(out)]) == 1
    found = json.loads(out.read_text())
    assert found['failed'] == {'scoring': reason} and found['seconds'].keys() == {'scoring', 'rle'}
    assert {row['path'] for row in found['rows']} == {'scoring', 'rle'}
    printed, progress = capsys.readouterr()
    assert f'scoring failed: {reason}' in printed
    assert f'scoring failed: {reason}' in progress and re.search(r'^rle: \d+\.\d s$', progress, re.MULTILINE)
    assert ('Traceback' in progress) == isinstance(error, RuntimeError)


def test_paths_without_gpu_do_not_wait_for_it(monkeypatch):
    devices = []
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    for path in ('scoring', 'rle'):
        monkeypatch.setitem(suite.MEASURES, path, lambda bench, settings: devices.append(bench.device.type))
    suite.run_suite(Bench(torch.device('cuda'), 1, 1, (32, 64)), suite.QUICK, ['scoring', 'rle'], lambda _: None)
    assert devices == ['cpu', 'cuda']


@pytest.mark.parametrize('settings', [suite.GPU, suite.CPU, suite.QUICK], ids=['GPU', 'CPU', 'quick'])
def test_models_have_the_classes_of_the_videos_that_they_load(settings, tmp_path):
    spec = ToyVIS(videos=1, val_videos=1, frames=2, size=(64, 48), classes=suite.CLASSES)
    make_toy_vis(tmp_path, spec, workers=1, progress=False)
    cfg = settings.load('memcnp', suite.CLASSES)
    assert cfg.model.bbox_head.num_classes == suite.CLASSES
    init_default_scope('mmdet')
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.test_dataloader, 'valid')):
        loader.dataset.update(data_root=f'{tmp_path}/', ann_file=f'annotations/instances_{split}.json')
        assert len(DATASETS.build(loader.dataset)) > 0


@pytest.mark.parametrize('path', ['sipmask', 'masktrack', 'fcos', 'torchvision'])
def test_random_weights_give_as_many_detections_as_trained_ones(path, monkeypatch):
    """Few candidates of FCOS for its NMS, whose time depends on their number; ten objects with masks, or 100 boxes."""
    cfg, candidates = suite.GPU.load(path), []
    nms = BoxConvention.nms
    monkeypatch.setattr(BoxConvention, 'nms', lambda self, boxes, *args: candidates.append(len(boxes)) or nms(
        self, boxes, *args))
    if path == 'torchvision':
        cfg.model.update(min_size=96, max_size=160)
    model = build_model(cfg, torch.device('cpu')).eval()
    inputs, clips = synthetic_clips(1, 1, (96, 160), num_classes=3, original=(96, 160))
    found, = model(inputs, clips, mode='predict')
    instances = found[0].pred_track_instances
    assert len(instances) == (100 if path == 'fcos' else 10)
    assert all(number <= 2500 for number in candidates)
    if path in ('masktrack', 'torchvision'):
        boxes = (instances.bboxes[:, 2:] - instances.bboxes[:, :2]).prod(dim=1)
        areas = torch.from_numpy(coco_mask.area(list(instances.masks)).astype(float))
        assert boxes.min() > 64 and (areas / boxes).min() > 0.7  # masks that fill boxes of usual size


def test_videos_become_longer_by_repetition(tmp_path):
    make_toy_vis(tmp_path, ToyVIS(videos=0, val_videos=2, frames=3, size=(64, 48), classes=3), workers=1,
                 progress=False)
    ann_file = tmp_path / 'annotations/instances_valid.json'
    before = json.loads(ann_file.read_text())
    assert repeat_videos(ann_file, 4) == 2 * 3 * 4
    after = json.loads(ann_file.read_text())
    for video, old in zip(after['videos'], before['videos'], strict=True):
        assert video['length'] == 12 and video['file_names'] == 4 * old['file_names']
    for track, old in zip(after['annotations'], before['annotations'], strict=True):
        assert track['segmentations'] == 4 * old['segmentations'] and track['id'] == old['id']


def test_test_video_is_measured_from_outside(measured):
    rows = {row['what']: row for row in json.loads(measured[0].read_text())['rows'] if row['path'] == 'test_files'}
    first, steady, whole = (rows[f'test_video.py, {what}'] for what in (
        'start to first result', 'a frame, steady', 'whole run'))
    assert 1000 < first['median_ms'] < whole['median_ms']  # a process takes a second to import PyTorch
    parts = [row['median_ms'] for what, row in rows.items() if what.startswith('test_video.py, start: ')]
    assert len(parts) == 3 and parts[0] > 1000 and sum(parts) == pytest.approx(first['median_ms'], rel=0.01)
    assert whole['per_second'] == pytest.approx(1000 * whole['frames'] / whole['median_ms'])
    assert steady['per_second'] > whole['per_second'] and steady['frames'] == 18


def test_a_process_that_fails_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r'^test_video.py ended with 2: .*argument config: .*missing.py'):
        run_test(['missing.py'], tmp_path, gpu=False)


def test_what_was_measured_is_saved_after_each_path(monkeypatch, tmp_path):
    def fail(bench, settings):
        raise KeyboardInterrupt

    monkeypatch.setitem(suite.MEASURES, 'scoring', fail)
    out = tmp_path / 'x.json'
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(['--quick', '--paths', 'rle', 'scoring', '--commit', 'abc', '--out', str(out)])
    found = json.loads(out.read_text())
    assert {row['path'] for row in found['rows']} == {'rle'} and found['commit'] == 'abc'


def test_panels_without_rows_say_so():
    rows = [dict(path='association', what='association', visible=visible, per_second=1000 / visible)
            for visible in (1, 10)]
    frames, objects, size, gpus = growth_figure(rows, 'A').axes
    assert [line.get_ydata().tolist() for line in objects.lines] == [[1.0, 10.0]]
    for panel in (frames, size, gpus):
        assert [text.get_text() for text in panel.texts] == ['not measured']


def test_growth_with_gpus_tells_graphs_apart():
    plain = dict(path='gpus', what='training step', checkpointing='off', graphs='off', GPUs=1, per_second=40.0)
    rows = [plain, copy.copy(plain) | dict(graphs='on', per_second=60.0)]
    assert [line.get_ydata().tolist() for line in growth_figure(rows, '').axes[3].lines] == [[40.0], [60.0]]


def test_a_file_without_another_one_to_compare_with_is_one_line(tmp_path, capsys):
    path = tmp_path / 'new.json'
    path.write_text('{}')
    with pytest.raises(SystemExit):
        benchmark.parse_args([str(path)])
    assert '--against' in capsys.readouterr().err


def test_the_rows_of_several_files_are_plotted_together(tmp_path):
    files = []
    for name, gpus in (('a', 1), ('b', 2)):
        files.append(tmp_path / f'{name}.json')
        files[-1].write_text(json.dumps(record(row(path='gpus', graphs='on', GPUs=gpus, per_second=60 * gpus))))
    assert len(comparison.read_records(files)['rows']) == 2
    plot = tmp_path / 'growth.png'
    assert benchmark.main([*map(str, files), '--plot', str(plot)]) == 0
    assert plot.read_bytes().startswith(b'\x89PNG')
    files[1].write_text(json.dumps(record(row(), machine=dict(gpu='other', cpu='A', threads=2))))
    with pytest.raises(UserError, match=r'b\.json was measured on other hardware'):
        benchmark.main([*map(str, files), '--plot', str(plot)])
    with pytest.raises(SystemExit):  # a config and a file
        benchmark.parse_args(['configs/memcnp_toy.py', str(files[0])])
