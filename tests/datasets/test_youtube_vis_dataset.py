"""Items of the data sets: frames, reference frames, and faults in the files."""
import copy
import json
import os
import pickle
from itertools import chain

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from pycocotools import mask as mask_utils
from torch.utils.data import DataLoader

from mmdet.datasets import OVISDataset, SeededIndex, YVISDataset
from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.datasets.transforms import read_frame
from mmdet.errors import UserError
from mmdet.registry import DATASETS

PIPELINE = [{'type': 'LoadTrackFrames'}, {'type': 'LoadTrackAnnotations'}, {'type': 'RandomFlipClip'},
            {'type': 'PackTrackInputs'}]


def train_set(root, **changes) -> YVISDataset:
    arguments = {'ann_file': 'annotations/instances_train.json', 'data_root': str(root),
                 'data_prefix': {'img_path': 'train_images'}, 'pipeline': PIPELINE}
    return YVISDataset(**(arguments | changes))


def test_set(root, **changes) -> YVISDataset:
    return train_set(root, **({'ann_file': 'annotations/instances_valid.json', 'test_mode': True,
                               'data_prefix': {'img_path': 'valid_images'}} | changes))


test_set.__test__ = False


def keep_frames(frames):
    """Return a change of annotations: objects only in the given frames of the first video, none in the others."""
    def change(data):
        data['annotations'] = [a for a in data['annotations'] if a['video_id'] == 1]
        for annotation in data['annotations']:
            for key in ('segmentations', 'bboxes', 'areas'):
                annotation[key] = [value if t in frames else None for t, value in enumerate(annotation[key])]
    return change


def frame_ids(item: dict) -> list[int]:
    return [frame.frame_id for frame in item['data_samples']]


def test_categories_come_from_the_file(toy_set):
    dataset = train_set(toy_set, num_classes=3, metainfo={'classes': ['disc', 'square', 'triangle']})
    assert dataset.metainfo['classes'] == ('disc', 'square', 'triangle')
    assert dataset.cat_ids == (4, 5, 6)


def test_some_categories_are_chosen_by_name_in_any_order(toy_set):
    whole, some = train_set(toy_set).annotations, train_set(
        toy_set, num_classes=2, metainfo={'classes': ['triangle', 'disc']}).annotations
    assert (some.classes, some.cat_ids) == (('triangle', 'disc'), (6, 4))
    new_label = {0: 1, 2: 0}
    for video in range(len(whole.video_ids)):
        for frame in range(whole.video_length(video)):
            old, new = whole.objects(video, frame), some.objects(video, frame)
            kept = [place for place, label in enumerate(old.labels.tolist()) if label in new_label]
            assert new.labels.tolist() == [new_label[int(old.labels[place])] for place in kept]
            assert new.instances_id.tolist() == old.instances_id[kept].tolist()
            assert new.rles == [old.rles[place] for place in kept]
            assert (new.bboxes == old.bboxes[kept]).all()


@pytest.mark.parametrize('changes, words', [
    ({'metainfo': {'classes': ['disc', 'disc']}}, ['name each category once']),
    ({'metainfo': {'classes': ['disc']}, 'num_classes': 3}, ['metainfo.classes has 1 category', '3 classes']),
    ({'num_classes': 40}, ['3 categories', '40 classes', 'num_classes']),
    ({'metainfo': {'classes': ['disc', 'square', 'star']}}, ['triangle', 'star', 'metainfo.classes']),
    ({'on_bad_frame': 'ignore'}, ['on_bad_frame', "'ignore'"]),
    ({'clip_len': 0}, ['clip_len']),
    ({'data_prefix': {'img_path': 'valid_images'}}, ['00000.jpg does not exist']),
    ({'data_prefix': {'img_path': 'train_pictures'}}, ['train_pictures', '<split>/JPEGImages'])])
def test_mismatch_is_refused_at_the_start(toy_set, changes, words):
    with pytest.raises(UserError) as error:
        train_set(toy_set, **changes)
    assert all(word in str(error.value) for word in words), error.value


def test_training_on_a_test_set_is_refused(edited_set):
    with pytest.raises(UserError, match='no frame with an object'):
        train_set(edited_set(lambda data: data.pop('annotations')))


def test_ovis_is_built_by_name(toy_set):
    dataset = DATASETS.build({'type': 'OVISDataset', 'ann_file': 'annotations/instances_valid.json',
                              'data_root': str(toy_set), 'data_prefix': {'img_path': 'valid_images'},
                              'test_mode': True})
    assert isinstance(dataset, OVISDataset) and len(dataset) == 16


def test_training_items_are_the_annotated_frames(edited_set):
    dataset = train_set(edited_set(keep_frames({1, 2, 6})))
    assert [frame_ids(dataset[item])[0] for item in range(len(dataset))] == [1, 2, 6]


@pytest.mark.parametrize('frames, ref_range, key, expected', [
    ({0, 1, 3, 7}, 3, 0, {1, 3}),
    ({0, 1, 3, 7}, 3, 7, {0, 1, 3}),  # none within the range: any other
    ({0, 1, 3, 7}, 0, 0, {1, 3, 7}),
    ({0, 1, 3, 4, 5, 7}, (2, 4), 3, {0, 1, 5, 7}),
    ({0, 1, 3}, (5, 6), 3, {0, 1}),
    ({4}, 5, 4, {4})], ids=['near', 'far', 'range 0', 'from 2 to 4, on both sides', 'none so far away', 'alone'])
def test_reference_frame(edited_set, frames, ref_range, key, expected):
    dataset = train_set(edited_set(keep_frames(frames)), ref_range=ref_range)
    item = sorted(frames).index(key)
    drawn = [frame_ids(dataset[SeededIndex(item, (seed,))]) for seed in range(60)]
    assert {pair[0] for pair in drawn} == {key}
    counts = np.bincount([pair[1] for pair in drawn], minlength=8)
    assert set(np.flatnonzero(counts)) == expected
    assert counts[list(expected)].min() > 60 / len(expected) / 3


def test_same_object_has_the_same_id_in_both_frames(toy_set):
    truth = {a['id']: a for a in json.loads((toy_set / 'annotations/instances_train.json').read_text())['annotations']}
    dataset = train_set(toy_set)
    for item in range(0, len(dataset), 5):
        for frame in dataset[item]['data_samples']:
            found = frame.gt_instances
            assert len(found) > 0
            for ident, label, mask in zip(found.instances_id.tolist(), found.labels.tolist(), found.masks):
                assert truth[ident]['category_id'] == label + 4 and truth[ident]['video_id'] == frame.video_id
                assert mask.sum() == truth[ident]['areas'][frame.frame_id]


@pytest.mark.parametrize('clip_len, sizes', [(1, [1] * 8), (3, [3, 3, 2]), (8, [8]), (20, [8])])
def test_clips_cover_each_frame_once_and_cross_no_video(toy_set, clip_len, sizes):
    dataset = test_set(toy_set, clip_len=clip_len)
    clips = [[(frame.video_id, frame.frame_id) for frame in dataset[item]['data_samples']]
             for item in range(len(dataset))]
    assert [len(clip) for clip in clips] == sizes * 2
    assert list(chain(*clips)) == [(video, frame) for video in (1, 2) for frame in range(8)]
    assert [dataset.get_data_info(item)['length'] for item in range(len(dataset))] == sizes * 2


def test_item_depends_on_its_seed_alone(toy_set):
    dataset = train_set(toy_set)
    one, two = dataset[SeededIndex(5, (1, 2))], dataset[SeededIndex(5, (1, 2))]
    assert torch.equal(one['inputs'], two['inputs']) and frame_ids(one) == frame_ids(two)
    others = [dataset[SeededIndex(5, (1, seed))] for seed in range(3, 13)]
    assert len({tuple(frame_ids(item)) for item in others}) > 1
    assert len({item['data_samples'][0].flip for item in others}) == 2


def test_pickled_index_keeps_its_seed():
    index = pickle.loads(pickle.dumps(SeededIndex(7, (1, 2, 3))))
    assert index == 7 and index.seed == (1, 2, 3)


def spoil(path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how == 'cut off':
        path.write_bytes(data[:len(data) // 2])
    elif how == 'other size':
        cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))


@pytest.fixture
def spoilt_set(tmp_path):
    """Return a function of a fault that creates two videos, whose frames 2 have it, and returns their paths."""
    def make(how):
        make_toy_vis(tmp_path, ToyVIS(videos=1, val_videos=1, frames=4, size=(64, 48), seed=3), progress=False)
        paths = [tmp_path / name for name in ('train_images/toy0_00000/00002.jpg', 'valid_images/toy1_00000/00002.jpg')]
        for path in paths:
            spoil(path, how)
        return tmp_path, paths
    return make


FAULTS = {'missing': 'No such file', 'cut off': 'damaged or cut off', 'other size': '30x20'}


@pytest.mark.parametrize('how, workers', [*((how, 0) for how in FAULTS), ('cut off', 1)])
def test_bad_frame_is_an_error_that_names_it(spoilt_set, how, workers):
    root, paths = spoilt_set(how)
    loader = DataLoader(test_set(root), num_workers=workers, collate_fn=pseudo_collate)
    with pytest.raises(UserError) as error:
        list(loader)
    last_line = str(error.value).strip().splitlines()[-1]
    assert str(paths[1]) in last_line and FAULTS[how] in last_line
    assert not workers or last_line.startswith('mmdet.errors.UserError: ')


@pytest.mark.parametrize('how', FAULTS)
@pytest.mark.parametrize('workers', [0, 2])
def test_skipped_bad_frame_is_black_in_testing_and_counted(spoilt_set, how, workers):
    root, _ = spoilt_set(how)
    dataset = test_set(root, on_bad_frame='skip')
    items = list(DataLoader(dataset, num_workers=workers, collate_fn=pseudo_collate))
    assert [item['inputs'][0].any().item() for item in items] == [True, True, False, True]
    assert [item['data_samples'][0][0].get('bad_frame', False) for item in items] == [False, False, True, False]
    assert items[2]['inputs'][0].shape == items[1]['inputs'][0].shape
    assert dataset.num_bad_frames == 1


def test_skipped_bad_frame_is_replaced_in_training_and_counted(spoilt_set):
    root, paths = spoilt_set('cut off')
    dataset = train_set(root, on_bad_frame='skip')
    for item in range(len(dataset)):
        for seed in range(5):
            clip = dataset[SeededIndex(item, (seed,))]['data_samples']
            assert str(paths[0]) not in [frame.img_path for frame in clip]
    assert dataset.num_bad_frames >= 5


def test_training_without_any_readable_frame_ends(spoilt_set):
    root, paths = spoilt_set('missing')
    for path in paths[0].parent.iterdir():
        path.write_bytes(b'no image')
    with pytest.raises(UserError, match='4 items in a row'):
        train_set(root, on_bad_frame='skip', max_refetch=3)[0]


@pytest.mark.parametrize('mode', ['train', 'valid'])
def test_skipping_needs_one_image_that_exists(spoilt_set, mode):
    root, paths = spoilt_set('missing')
    make = train_set if mode == 'train' else test_set
    folder = paths[mode == 'valid'].parent
    (folder / '00000.jpg').unlink()
    assert len(make(root, on_bad_frame='skip'))
    folder.rename(root / 'elsewhere')
    with pytest.raises(UserError, match=r'none of the images .* exists, such as .*00000\.jpg: '):
        make(root, on_bad_frame='skip')


SPACES = ['\u202f', '\u00a0', '\u3000', '\u2009', '\u2028', '\u200b', '\ufeff', ' ']


@pytest.mark.parametrize('space', SPACES, ids=[f'U+{ord(space):04X}' for space in SPACES])
def test_spaces_of_all_kinds_are_legal_in_file_names(spoilt_set, space):
    root, paths = spoilt_set('other size')
    name = f'Bildschirmfoto{space}10.30{space}映像.jpg'
    (paths[0].parent / '00001.jpg').rename(paths[0].parent / name)
    path = root / 'annotations' / 'instances_train.json'
    path.write_text(path.read_text().replace('00001.jpg', name))
    dataset = train_set(root)
    assert dataset.annotations.file_name(0, 1) == f'toy0_00000/{name}'
    assert read_frame(str(dataset._img_path(0, 1)), 48, 64).any()


def test_backslashes_in_file_names_are_named(spoilt_set):
    root, _ = spoilt_set('other size')
    path = root / 'annotations' / 'instances_train.json'
    path.write_text(path.read_text().replace('toy0_00000/', 'toy0_00000\\\\'))
    with pytest.raises(UserError, match=r"its name has backslashes; write 'toy0_00000/00000\.jpg' in file_names"):
        train_set(root)


def test_another_image_folder_that_has_the_images_is_named(spoilt_set):
    root, _ = spoilt_set('other size')
    (root / 'train_images' / 'JPEGImages').mkdir()
    (root / 'train_images' / 'toy0_00000').rename(root / 'train_images' / 'JPEGImages' / 'toy0_00000')
    with pytest.raises(UserError, match=r'it is in .*train_images/JPEGImages; give that folder'):
        train_set(root)


def private_bytes() -> int:
    """Return the memory that this process does not share with others, in bytes."""
    with open('/proc/self/smaps_rollup') as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(('Private_Dirty', 'Private_Clean')))


class MemoryProbe(torch.utils.data.Dataset):
    """Read the annotations of all items, then return the memory that is no longer shared."""

    def __init__(self, dataset: YVISDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        before = private_bytes()
        annotations = self.dataset.annotations
        for item in range(len(self.dataset)):
            info = self.dataset.get_data_info(item)
            annotations.objects(info['video'], info['frame'])
        return private_bytes() - before


@pytest.mark.skipif(not os.path.exists('/proc/self/smaps_rollup'), reason='needs Linux')
def test_workers_share_the_annotations(edited_set):
    board = np.indices((48, 64)).sum(0) % 2  # nothing has more runs
    rle = {'size': [48, 64], 'counts': mask_utils.encode(np.asfortranarray(board.astype(np.uint8)))['counts'].decode()}

    def enlarge(data):
        data['annotations'] = [{'id': number, 'video_id': 1, 'category_id': 4, 'segmentations': [rle] * 8}
                               for number in range(400)]
    dataset = train_set(edited_set(enlarge))
    size = dataset.annotations.runs.nbytes
    grown = list(DataLoader(MemoryProbe(dataset), num_workers=2))
    assert size > 8_000_000
    assert max(int(value) for value in grown) < size / 2


def test_copies_share_the_annotations(toy_set):
    dataset = train_set(toy_set)
    assert copy.deepcopy(dataset).annotations is dataset.annotations
    assert dataset.get_subset([3, 1]).annotations is dataset.annotations
    assert frame_ids(dataset.get_subset([3, 1])[0])[0] == frame_ids(dataset[3])[0]


def test_spawned_worker_can_take_the_set(toy_set):
    again = pickle.loads(pickle.dumps(train_set(toy_set)))
    seeded = SeededIndex(2, (1,))
    assert torch.equal(again[seeded]['inputs'], train_set(toy_set)[seeded]['inputs'])
