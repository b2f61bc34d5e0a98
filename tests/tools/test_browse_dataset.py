"""browse_dataset.py: pictures of pairs and clips, the same for the same seed; wrong arguments."""
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.datasets.toy import ToyVIS, make_toy_vis
from mmdet.errors import UserError
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.visualization import TrackVisualizer
from mmdet.visualization.clip_picture import GAP, picture_of_clip

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy')
    make_toy_vis(root, ToyVIS(videos=2, val_videos=1, frames=4, size=(96, 64), classes=3, easy=True), progress=False)
    return root


def browse(toy, out, *options):
    keys = [f'{split}_dataloader.dataset.data_root={toy}' for split in ('train', 'val')]
    main = runpy.run_path(str(ROOT / 'tools' / 'analysis_tools' / 'browse_dataset.py'))['main']
    return main([str(ROOT / 'configs' / 'memcnp_toy.py'), '--out', str(out), *options, '--cfg-options', *keys])


def pictures(folder):
    return {path.name: cv2.imread(str(path)) for path in sorted(folder.iterdir())}


def test_pairs_are_drawn_alike_for_one_seed(toy, tmp_path, capsys):
    assert browse(toy, tmp_path / 'a', '--number', '3') == 0
    assert '3 of 8 items' in capsys.readouterr().out
    browse(toy, tmp_path / 'b', '--number', '3')
    browse(toy, tmp_path / 'c', '--number', '3', '--seed', '5')
    first, second, third = (pictures(tmp_path / name) for name in 'abc')
    assert len(first) == 3 and first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(name not in first or not np.array_equal(first[name], third[name]) for name in third)
    for picture in first.values():
        assert picture.shape == (192, 2 * 288 + GAP, 3)  # 96x64 resized to fit 320x192
        assert (picture[:, 288:288 + GAP] == 255).all()


def test_testing_clips_in_order(toy, tmp_path):
    browse(toy, tmp_path, '--split', 'val', '--number', '99', '--in-order', '--cfg-options',
           'val_dataloader.dataset.clip_len=1')
    assert [(name, picture.shape) for name, picture in pictures(tmp_path).items()] == [
        (f'{index:06d}.png', (192, 288, 3)) for index in range(4)]


def test_objects_keep_their_colour_and_padding_stays_black():
    """The same id as a plain mask in both frames: the same tint; the second frame is smaller, the rest stays black."""
    frames = []
    for size in ((40, 60), (30, 50)):
        mask = torch.zeros(1, *size, dtype=torch.uint8)
        mask[0, 10:20, 10:20] = 1
        frames.append(DetDataSample(metainfo=dict(img_shape=size), gt_instances=InstanceData(
            bboxes=torch.tensor([[10., 10, 19, 19]]), masks=mask, labels=torch.tensor([0]),
            instances_id=torch.tensor([7]))))
    clip = TrackDataSample()
    clip.video_data_samples = frames
    inputs = torch.full((2, 3, 40, 60), 128, dtype=torch.uint8)
    inputs[1, :, 30:], inputs[1, :, :, 50:] = 0, 0
    plain = TrackVisualizer(['cat'], draw_labels=False, draw_boxes=False, draw_contours=False)
    picture = picture_of_clip(inputs, clip, plain)
    left, right = picture[:, :60], picture[:, 60 + GAP:]
    assert np.array_equal(left[15, 15], right[15, 15]) and (left[15, 15] != 128).any()
    assert (left[25:] == 128).all() and (right[30:] == 0).all() and (right[:, 50:] == 0).all()


@pytest.mark.parametrize('options, words', [(('--number', '0'), '--number 0'), (('--seed', '-1'), '--seed -1')])
def test_wrong_number(toy, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        browse(toy, tmp_path, *options)


def test_folder_that_is_a_file(toy, tmp_path):
    (tmp_path / 'x').write_text('')
    with pytest.raises(UserError, match='cannot make the folder'):
        browse(toy, tmp_path / 'x')
