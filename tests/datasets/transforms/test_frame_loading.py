"""Images and masks of all formats are decoded to the same arrays; errors name damaged files."""
import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from mmdet.datasets.packed_annotations import FrameObjects
from mmdet.datasets.transforms import BadFrameError, LoadTrackAnnotations, LoadTrackFrames, read_frame

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def save(path, kind: str) -> np.ndarray:
    """Write an image of a format; return the expected BGR pixels."""
    if kind == 'rgb':
        Image.fromarray(RGB).save(path)
    elif kind == 'rgba':
        Image.fromarray(np.dstack([RGB, GREY])).save(path)
    elif kind == 'grey':
        Image.fromarray(GREY).save(path)
    elif kind == 'grey 16 bit':
        cv2.imwrite(str(path), GREY.astype(np.uint16) * 256 + 77)
    elif kind == 'rgb 16 bit':
        cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 256 + 77)
    elif kind == 'palette':
        Image.fromarray(GREY).convert('P', palette=Image.Palette.ADAPTIVE, colors=256).save(path)
    elif kind == 'black and white':
        Image.fromarray(GREY > 127).save(path)
        return np.repeat(np.uint8(255) * (GREY > 127)[..., None], 3, axis=2)
    return np.repeat(GREY[..., None], 3, axis=2) if kind.startswith(('grey', 'palette')) else RGB[..., ::-1]


@pytest.mark.parametrize('kind', ['rgb', 'rgba', 'grey', 'grey 16 bit', 'rgb 16 bit', 'palette', 'black and white'])
def test_every_kind_becomes_bgr(tmp_path, kind):
    expected = save(tmp_path / 'image.png', kind)
    image = read_frame(str(tmp_path / 'image.png'), 5, 7)
    assert image.dtype == np.uint8 and image.shape == (5, 7, 3)
    assert (image == expected).all()


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_exif_orientation_follows_the_annotated_size(tmp_path, orientation):
    path = str(tmp_path / 'image.png')
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    stored = RGB[..., ::-1]
    turned = {1: stored, 3: stored[::-1, ::-1], 6: np.rot90(stored, -1), 8: np.rot90(stored)}[orientation]
    assert (read_frame(path, 5, 7) == stored).all()
    assert (read_frame(path) == turned).all()
    if orientation in (6, 8):
        assert (read_frame(path, 7, 5) == turned).all()


@pytest.mark.parametrize('height, width', [(1, 1), (1, 300), (300, 1)])
def test_thin_images(tmp_path, height, width):
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((height, width, 3), 9, np.uint8))
    assert (read_frame(str(tmp_path / 'image.png'), height, width) == 9).all()


def test_errors_name_the_file(tmp_path):
    path = tmp_path / 'image.jpg'
    with pytest.raises(BadFrameError, match=r'image\.jpg.*No such file'):
        read_frame(str(path))
    with pytest.raises(BadFrameError, match='directory'):
        read_frame(str(tmp_path))
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = path.read_bytes()
    for content in (b'', b'no image', data[:len(data) // 2], data[:-2]):
        path.write_bytes(content)
        with pytest.raises(BadFrameError, match=rf'image\.jpg is damaged or cut off \({len(content)} bytes\)'):
            read_frame(str(path))
    path.write_bytes(data)
    with pytest.raises(BadFrameError, match=r'64x64 pixels, the annotation file says 32x16'):
        read_frame(str(path), 16, 32)


def test_frames_of_a_clip(tmp_path):
    for name in 'ab':
        save(tmp_path / f'{name}.png', 'rgb')
    clip = {'frames': [{'img_path': str(tmp_path / f'{name}.png'), 'height': 5, 'width': 7} for name in 'ab']}
    for frame in LoadTrackFrames(keep_original=True)(clip)['frames']:
        assert frame['ori_shape'] == frame['img_shape'] == (5, 7)
        assert frame['scale_factor'] == 1 and frame['flip'] is False
        assert frame['ori_img'] is frame['img']
    plain = {'frames': [{'img_path': str(tmp_path / 'a.png')}]}
    assert 'ori_img' not in LoadTrackFrames()(plain)['frames'][0]


def test_masks_are_decoded_in_order():
    masks = np.random.default_rng(1).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    boxes, labels, idents = np.ones((3, 4), np.float32), np.arange(3), np.array([9, 8, 7])
    frames = [{'ori_shape': (5, 7), 'objects': FrameObjects(boxes, labels, idents, rles)},
              {'ori_shape': (5, 7), 'objects': FrameObjects(boxes[:0], labels[:0], idents[:0], [])}]
    full, empty = LoadTrackAnnotations()({'frames': frames})['frames']
    assert (full['gt_masks'] == masks).all() and full['gt_masks'].dtype == np.uint8
    assert full['gt_labels'].tolist() == [0, 1, 2] and full['gt_instances_id'].tolist() == [9, 8, 7]
    assert empty['gt_masks'].shape == (0, 5, 7) and empty['gt_bboxes'].shape == (0, 4)
