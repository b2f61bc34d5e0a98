"""check_dataset.py finds every planted fault and nothing in a sound set; split_dataset.py keeps all and balances."""
import copy
import json
import runpy
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.datasets.splits import stratified_split
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.errors import UserError

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run(tool, *arguments):
    return runpy.run_path(str(TOOLS / f'{tool}.py'))['main']([str(argument) for argument in arguments])


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy')
    make_toy_vis(root, ToyVIS(videos=3, val_videos=0, frames=4, size=(64, 48), classes=3), progress=False)
    return root, json.loads((root / 'annotations' / 'instances_train.json').read_text())


def check(tmp_path, capsys, content, *options):
    path = tmp_path / 'changed.json'
    path.write_text(json.dumps(content))
    status = run('check_dataset', path, *options)
    lines = [line.removeprefix(f'{path}: ') for line in capsys.readouterr().out.splitlines()]
    return status, lines[:-1], lines[-1]


def test_sound_set(toy, tmp_path, capsys):
    root, content = toy
    status, faults, summary = check(tmp_path, capsys, content, '--images', root / 'train_images', '--decode')
    assert (status, faults) == (0, []) and summary.startswith('no faults in 3 videos')


def test_every_fault_is_listed(toy, tmp_path, capsys):
    """Each change is one fault in another entry; all are found in one run, none hides another."""
    content = copy.deepcopy(toy[1])
    annotations = content['annotations']
    shown = next(frame for frame, rle in enumerate(annotations[1]['segmentations']) if rle)
    annotations[0]['bboxes'].pop()
    annotations[1]['segmentations'][shown]['counts'] = 'o'
    annotations[1]['bboxes'][shown] = [1, 2, 3]
    annotations[2].update(segmentations=[None] * 4, bboxes=[None] * 4, areas=[None] * 4)
    annotations[3]['category_id'] = 99
    annotations[4]['video_id'] = 98
    twin = copy.deepcopy(annotations[5]) | dict(id=500)
    annotations += [twin, copy.deepcopy(annotations[6]) | dict(video_id=97)]
    content['videos'][2]['length'] = 7
    content['videos'].append(dict(id=44, width=64, height=-1, file_names=['x/1.jpg', '../1.jpg', 'x/1.jpg']))
    content['categories'][1]['name'] = content['categories'][0]['name']
    status, faults, summary = check(tmp_path, capsys, content)
    expected = ['annotations: id 7 is used 2 times', 'categories: 2 have the name', 'video 3: length is 7',
                'video 44: image size', "video 44: file name '../1.jpg'", 'video 44: x/1.jpg is listed 2 times',
                'annotation 1: bboxes has 3 entries, the video 4 frames',
                f'annotation 2, segmentations[{shown}]: RLE counts', f'annotation 2, bboxes[{shown}]: is [1, 2, 3]',
                'annotation 3: is in no frame', 'annotation 4: category_id 99', 'annotation 5: video_id 98',
                'annotation 7: video_id 97', 'annotations 6 and 500: in video']
    assert [sum(fault.startswith(start) for fault in faults) for start in expected] == [1] * len(expected), faults
    assert len(faults) == len(expected) and status == 1 and summary.startswith('14 faults in 4 videos')


@pytest.mark.parametrize('key, value, words', [
    ('bboxes', [40, 30, 10, 10], "pixels off the mask's extents"), ('bboxes', None, 'is null, but there is a mask'),
    ('areas', 0, 'is 0, but there is a mask'), ('bboxes', [1, 2, 0, 3], 'has no area'),
    ('segmentations', dict(size=[48, 64], counts=[48 * 64]), 'the mask is empty')])
def test_faults_between_mask_and_box(toy, tmp_path, capsys, key, value, words):
    content = copy.deepcopy(toy[1])
    annotation = next(annotation for annotation in content['annotations'] if all(annotation['segmentations']))
    shown = 2
    annotation['bboxes'][shown], annotation[key][shown] = [1, 1, 2, 2], value
    if key != 'bboxes':
        annotation['bboxes'] = None
    status, faults, _ = check(tmp_path, capsys, content)
    assert status == 1 and len(faults) == 1 and words in faults[0] and f'{key}[{shown}]' in faults[0]


def test_faulty_images(toy, tmp_path, capsys):
    root, content = toy
    images = tmp_path / 'images'
    for video in content['videos']:
        for name in video['file_names']:
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            (images / name).write_bytes((root / 'train_images' / name).read_bytes())
    names = [video['file_names'] for video in content['videos']]
    (images / names[0][1]).unlink()
    cv2.imwrite(str(images / names[1][2]), np.zeros((48, 60, 3), np.uint8))
    (images / names[2][0]).write_bytes(b'no image')
    cut = (images / names[2][3])
    cut.write_bytes(cut.read_bytes()[:20])
    status, faults, _ = check(tmp_path, capsys, content, '--images', images)
    expected = [(names[0][1], 'missing'), (names[1][2], '60x48'), (names[2][0], 'damaged'), (names[2][3], 'damaged')]
    assert status == 1 and len(faults) == 4
    assert all(name in fault and word in fault for fault, (name, word) in zip(faults, expected)), faults
    status, faults, _ = check(tmp_path, capsys, content, '--images', images, '--decode')
    assert [name in fault for fault, (name, _) in zip(faults, expected)] == [True] * 4


@pytest.mark.parametrize('text, words', [('{', 'is not JSON'), ('{"videos": []}', "non-empty list 'videos'"),
                                         ('{"videos": [1], "categories": [1], "annotations": 3}', 'must be a list')])
def test_unreadable_file(tmp_path, text, words):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(UserError, match=words):
        run('check_dataset', tmp_path / 'x.json')


def test_entries_of_the_wrong_kind(tmp_path, capsys):
    content = dict(videos=[3, dict(id='a')], categories=[None], annotations=[[], dict(id=1, video_id=[])])
    status, faults, _ = check(tmp_path, capsys, content)
    assert status == 1 and {'videos[0]: needs an integer id', 'videos[1]: needs an integer id',
                            'categories[0]: needs an integer id', 'annotations[0]: needs an integer id'} <= set(faults)


def test_split_keeps_everything(toy, tmp_path):
    root, content = toy
    source = root / 'annotations' / 'instances_train.json'
    assert run('split_dataset', source, '--out', tmp_path, '--share', 0.34) == 0
    parts = [json.loads((tmp_path / f'instances_{name}.json').read_text()) for name in ('train', 'valid')]
    assert [len(part['videos']) for part in parts] == [2, 1]
    for key in ('videos', 'annotations'):
        assert sorted(parts[0][key] + parts[1][key], key=lambda entry: entry['id']) == content[key]
    for part, name in zip(parts, ('train', 'valid')):
        assert part['categories'] == content['categories']
        assert {a['video_id'] for a in part['annotations']} <= {video['id'] for video in part['videos']}
        assert len(read_youtube_vis(tmp_path / f'instances_{name}.json').video_ids) == len(part['videos'])


def test_split_does_not_overwrite_its_source(toy):
    source = toy[0] / 'annotations' / 'instances_train.json'
    before = source.read_bytes()
    with pytest.raises(UserError, match='would be overwritten'):
        run('split_dataset', source, '--out', source.parent)
    assert source.read_bytes() == before


def test_split_is_stratified_and_repeatable():
    """60 videos of common, 10 of rare and 5 of very rare categories: each part gets its share of every one."""
    rng = np.random.default_rng(0)
    counts = [Counter({int(c): int(n) for c, n in zip(rng.choice(3, 2, replace=False), rng.integers(1, 4, 2))})
              for _ in range(60)]
    for number, video in enumerate(counts[:15]):
        video[3 if number < 10 else 4] += 1
    second = stratified_split(counts, .2, seed=1)
    assert second == stratified_split(counts, .2, seed=1)
    assert any(second != stratified_split(counts, .2, seed=seed) for seed in (2, 3))
    assert sum(second) == 12
    total = sum(counts, Counter())
    chosen = sum((video for video, is_second in zip(counts, second) if is_second), Counter())
    for category, number in total.items():
        assert abs(chosen[category] - .2 * number) <= max(1, .05 * number)


@pytest.mark.parametrize('counts, share', [([{}, {}], .01), ([{1: 3}, {1: 3}], .99), ([{1: 1}, {2: 1}, {3: 1}], .05)])
def test_no_part_is_empty(counts, share):
    assert set(stratified_split(counts, share, 0)) == {True, False}


@pytest.mark.parametrize('options, words', [(('--share', '1'), '--share 1.0'), (('--seed', '-1'), '--seed -1')])
def test_wrong_split(toy, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        run('split_dataset', toy[0] / 'annotations' / 'instances_train.json', '--out', tmp_path, *options)
