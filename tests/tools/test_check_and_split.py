"""check_dataset.py finds every planted fault and nothing in a sound set; split_dataset.py keeps all and balances."""
import copy
import json
import re
import runpy
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.datasets.splits import stratified_split
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.transforms import read_frame
from mmdet.errors import UserError
from mmdet.evaluation.functional import read_ground_truth
from mmdet.structures.masks import encode_index_mask

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
    content['videos'][2]['file_names'][1] = content['videos'][2]['file_names'][0]
    content['videos'].append(dict(id=44, width=64, height=-1, file_names=['x/1.jpg', '../1.jpg']))
    content['categories'][1]['name'] = content['categories'][0]['name']
    status, faults, summary = check(tmp_path, capsys, content)
    expected = [f'annotations[{len(annotations) - 1}] and [6] have the same id 7',
                'categories: 2 have the name', 'video 3: length is 7',
                'video 44: image size', "video 44: file name '../1.jpg'",
                "video 3: 'toy0_00002/00000.jpg' is listed 2 times",
                'annotation 1: bboxes has 3 entries, video 1 has 4 frames',
                f'annotation 2, segmentations[{shown}]: RLE counts',
                f'annotation 2, bboxes[{shown}]: [1, 2, 3] must be',
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


@pytest.fixture
def copied(toy, tmp_path):
    """The content of the file, and a copy of its images that a test may spoil."""
    shutil.copytree(toy[0] / 'train_images', tmp_path / 'images')
    return copy.deepcopy(toy[1]), tmp_path / 'images'


def test_a_wrong_image_folder_is_one_line_that_names_the_right_one(copied, tmp_path, capsys):
    content, images = copied
    inside = images / content['videos'][0]['file_names'][0].split('/')[0]
    status, faults, summary = check(tmp_path, capsys, content, '--images', inside)
    assert status == 1 and summary.startswith('1 fault in 3 videos')
    first = inside / content['videos'][0]['file_names'][0]
    assert faults == [f'all 12 images have the same fault: the image {first} is missing; it is in {images}; give that '
                      'folder']


def test_a_video_whose_images_share_a_fault_is_one_line(copied, tmp_path, capsys):
    content, images = copied
    for name in content['videos'][1]['file_names']:
        cv2.imwrite(str(images / name), np.zeros((96, 128, 3), np.uint8))
    (images / content['videos'][0]['file_names'][2]).unlink()
    status, faults, _ = check(tmp_path, capsys, content, '--images', images, '--decode')
    assert status == 1 and len(faults) == 2
    assert faults[0].startswith('video 1: the image ') and faults[0].endswith('00002.jpg is missing')
    assert faults[1].startswith('video 2: all 4 images have the same fault: ') and '128x96' in faults[1]


def test_backslashes_are_named(copied, tmp_path, capsys):
    content, images = copied
    for video in content['videos']:
        video['file_names'] = [name.replace('/', '\\') for name in video['file_names']]
    _, faults, _ = check(tmp_path, capsys, content, '--images', images)
    assert len(faults) == 1 and "its name has backslashes; write 'toy0_00000/00000.jpg' in file_names" in faults[0]


DAMAGES = {'zeroed': lambda data, at: data[:at] + bytes(40) + data[at + 40:],
           'one byte changed': lambda data, at: data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:],
           'bytes lost': lambda data, at: data[:at] + data[at + 100:],
           'cut off, end marker put back': lambda data, at: data[:at] + data[-2:]}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize('progressive', [0, 1])
def test_jpegs_damaged_inside_are_named_by_decode(copied, tmp_path, capsys, damage, progressive):
    """OpenCV returns such an image, with grey or shifted rows."""
    content, images = copied
    path = images / content['videos'][1]['file_names'][2]
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    assert check(tmp_path, capsys, content, '--images', images, '--decode')[0] == 0
    data = path.read_bytes()
    path.write_bytes(damage(data, len(data) // 2))
    assert read_frame(str(path), 48, 64).shape == (48, 64, 3)
    status, faults, _ = check(tmp_path, capsys, content, '--images', images, '--decode')
    assert status == 1 and len(faults) == 1
    assert faults[0].startswith(f'video 2: the image {path} is damaged inside (')


def test_masks_with_interpolated_numbers_are_found(tmp_path, capsys):
    """A disc of 0 and 255 resized with interpolation, every number an object, as other converters write it."""
    rows, columns = np.ogrid[:60, :60]
    disc = np.where((rows - 30) ** 2 + (columns - 30) ** 2 < 400, 255, 0).astype(np.uint8)
    index = cv2.resize(disc, (150, 130), interpolation=cv2.INTER_CUBIC)
    rles = encode_index_mask(index)
    assert len(rles) > 30
    annotations = [dict(id=number, video_id=1, category_id=1, segmentations=[rle]) for number, rle in rles.items()]
    content = dict(videos=[dict(id=1, height=130, width=150, file_names=['v/0.jpg'])],
                   categories=[dict(id=1, name='a')], annotations=annotations)
    status, faults, _ = check(tmp_path, capsys, content)
    assert status == 1 and len(faults) == 1
    assert re.match(rf'video 1: \d+ of {len(rles)} objects are thin lines along others.*nearest-neighbour', faults[0])


def test_readers_use_the_same_words(toy, tmp_path, capsys):
    """Data sets, metrics and the check give the first fault of a file in the same words."""
    content = copy.deepcopy(toy[1])
    content['annotations'][2]['segmentations'].pop()
    _, faults, _ = check(tmp_path, capsys, content)
    for read in (read_youtube_vis, read_ground_truth):
        with pytest.raises(UserError) as error:
            read(str(tmp_path / 'changed.json'))
        assert str(error.value) == f'{tmp_path / "changed.json"}: {faults[0]}'


@pytest.mark.parametrize('text, words', [('{', 'is not JSON'), ('{"images": [], "annotations": []}', 'is COCO JSON'),
                                         ('{"videos": []}', "non-empty list 'videos'"),
                                         ('{"videos": [1], "categories": [1], "annotations": 3}', 'must be a list')])
def test_unreadable_file(tmp_path, text, words):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(UserError, match=words):
        run('check_dataset', tmp_path / 'x.json')


def test_entries_of_the_wrong_kind(tmp_path, capsys):
    content = dict(videos=[3, dict(id='a')], categories=[None], annotations=[[], dict(id=1, video_id=[])])
    status, faults, _ = check(tmp_path, capsys, content)
    assert status == 1 and {f'{entry} must be an object with an integer id' for entry in (
        'videos[0]', 'videos[1]', 'categories[0]', 'annotations[0]')} <= set(faults)


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
