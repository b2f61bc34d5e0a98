"""Converters to YouTube-VIS JSON: what they write is what was there, and every fault is one line."""
import json
import runpy
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.datasets.converters.mask_folders import read_video
from mmdet.datasets.packed_annotations import read_youtube_vis
from mmdet.datasets.transforms import read_frame
from mmdet.errors import UserError
from mmdet.structures.masks import decode_masks

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'


def run(tool, *arguments):
    return runpy.run_path(str(TOOLS / f'{tool}.py'))['main']([str(argument) for argument in arguments])


def index_mask(objects, size=(20, 30)):
    """(h, w) uint8: rectangles number → x, y, w, h."""
    mask = np.zeros(size, np.uint8)
    for number, (x, y, w, h) in objects.items():
        mask[y:y + h, x:x + w] = number
    return mask


@pytest.fixture
def folders(tmp_path):
    """Two videos: 'cats' of three frames (the third without mask) with objects 1 and 5, 'dogs' of one with object 2."""
    frames = {'cats': [{1: (2, 3, 5, 4), 5: (10, 10, 6, 6)}, {5: (11, 10, 6, 6)}], 'dogs': [{2: (0, 0, 30, 20)}]}
    for video, masks in frames.items():
        for kind in ('images', 'masks'):
            (tmp_path / kind / video).mkdir(parents=True)
        for frame in range(len(masks) + (video == 'cats')):
            cv2.imwrite(str(tmp_path / 'images' / video / f'{frame:05d}.jpg'), np.zeros((20, 30, 3), np.uint8))
        for frame, objects in enumerate(masks):
            image = Image.fromarray(index_mask(objects)).convert('P')
            image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10] + [77] * 759)  # colours must not matter
            image.save(tmp_path / 'masks' / video / f'{frame:05d}.png')
    return tmp_path


def convert_masks(folders, *options):
    out = folders / 'out' / 'vis.json'
    assert run('masks2yvis', folders / 'images', folders / 'masks', '--out', out, *options) == 0
    return out


def test_masks_become_tracks(folders, capsys):
    out = convert_masks(folders)
    said = capsys.readouterr().out
    assert '2 videos, 3 frames, 3 objects' in said and 'note: left out: 1 image without a mask' in said
    read = read_youtube_vis(out)
    assert read.classes == ('object',) and read.file_name(0, 1) == 'cats/00001.jpg' and read.video_length(0) == 2
    first, second = read.objects(0, 0), read.objects(0, 1)
    assert first.bboxes.tolist() == [[2, 3, 6, 6], [10, 10, 15, 15]]
    assert second.instances_id.tolist() == first.instances_id[1:].tolist()
    expected = index_mask({1: (2, 3, 5, 4), 5: (10, 10, 6, 6)})
    assert np.array_equal(decode_masks(first.rles), [expected == 1, expected == 5])
    content = json.loads(out.read_text())
    assert content['annotations'][0]['segmentations'][1] is None and content['annotations'][0]['areas'] == [20, None]


def test_categories_from_meta_and_list(folders):
    (folders / 'meta.json').write_text(json.dumps(dict(videos=dict(
        cats=dict(objects={'1': dict(category='cat'), '5': dict(category='cat')}),
        dogs=dict(objects={'2': dict(category='dog')})))))
    (folders / 'names.txt').write_text('bird\ndog\ncat\n')
    read = read_youtube_vis(convert_masks(folders, '--meta', folders / 'meta.json'))
    assert read.classes == ('cat', 'dog') and read.object_labels.tolist() == [0, 0, 1]
    read = read_youtube_vis(convert_masks(folders, '--meta', folders / 'meta.json', '--categories',
                                          folders / 'names.txt'))
    assert read.classes == ('bird', 'dog', 'cat') and read.object_labels.tolist() == [2, 2, 1]


def test_ignored_number_is_no_object(folders):
    read = read_youtube_vis(convert_masks(folders, '--ignore', 5))
    assert [len(read.objects(*at).rles) for at in ((0, 0), (0, 1), (1, 0))] == [1, 0, 1]


def remove_image(root):
    (root / 'images' / 'cats' / '00001.jpg').unlink()


def remove_video(root):
    (root / 'images' / 'cats').rename(root / 'images' / 'lions')


def shrink_image(root):
    cv2.imwrite(str(root / 'images' / 'cats' / '00001.jpg'), np.zeros((10, 30, 3), np.uint8))


def shrink_mask(root):
    Image.fromarray(np.zeros((10, 30), np.uint8)).save(root / 'masks' / 'dogs' / '00000.png')


def colour_mask(root):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / 'masks' / 'dogs' / '00000.png')


def cut_mask(root):
    path = root / 'masks' / 'dogs' / '00000.png'
    noise = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:120])


def no_masks(root):
    for path in (root / 'masks').glob('*/*.png'):
        path.unlink()


def empty_masks(root):
    for path in (root / 'masks').glob('*/*.png'):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)


@pytest.mark.parametrize('damage, words', [
    (remove_image, r'00001\.png has no image'), (remove_video, r'images/cats does not exist'),
    (shrink_image, r'00001\.png has 30x20 pixels, its image 00001\.jpg 30x10'),
    (shrink_mask, r'00000\.png has 30x10 pixels, its image 00000\.jpg 30x20'),
    (colour_mask, r'00000\.png has 3 numbers a pixel'), (cut_mask, r'00000\.png is damaged'),
    (no_masks, r'masks has no folders with PNG'), (empty_masks, r'no object')])
def test_faulty_folders(folders, damage, words):
    damage(folders)
    with pytest.raises(UserError, match=words) as error:
        convert_masks(folders)
    assert '\n' not in str(error.value) and not (folders / 'out').exists()


def save_video(root, name, masks, ending='.jpg', **exif):
    """A video whose frame i has ``masks[i]`` and an image of the same size, both named i without zeros."""
    for kind in ('images', 'masks'):
        (root / kind / name).mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(root / 'masks' / name / f'{number}.png')
        size = mask.shape[1::-1] if exif else mask.shape[:2]
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(root / 'images' / name / f'{number}{ending}', **exif)


def disc(size, number=255):
    rows, columns = np.ogrid[:size, :size]
    return np.where((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 3) ** 2, number, 0).astype(np.uint8)


def test_frames_without_zeros_are_in_natural_order(tmp_path):
    save_video(tmp_path, 'v10', [index_mask({1: (number, 0, 2, 2)}) for number in range(12)])
    save_video(tmp_path, 'v9', [index_mask({1: (0, 0, 2, 2)})])
    read = read_youtube_vis(convert_masks(tmp_path))
    assert read.file_name(0, 0) == 'v9/0.jpg'
    assert [read.file_name(1, frame) for frame in range(12)] == [f'v10/{frame}.jpg' for frame in range(12)]
    assert [read.objects(1, frame).bboxes[0, 0] for frame in range(12)] == list(range(12))


def test_hidden_files_are_skipped_and_endings_may_be_upper_case(folders):
    for kind, ending in (('images', 'jpg'), ('masks', 'png')):
        (folders / kind / '.ipynb_checkpoints').mkdir()
        (folders / kind / '.ipynb_checkpoints' / f'00000-checkpoint.{ending}').write_bytes(b'')
        for name in (f'._00000.{ending}', '.DS_Store'):
            (folders / kind / 'dogs' / name).write_bytes(b'Mac OS X')
        frame = folders / kind / 'dogs' / f'00000.{ending}'
        frame.rename(frame.with_suffix(f'.{ending.upper()}'))
    read = read_youtube_vis(convert_masks(folders))
    assert len(read.video_ids) == 2 and read.file_name(1, 0) == 'dogs/00000.JPG'


def test_two_images_of_one_name_are_refused(folders):
    cv2.imwrite(str(folders / 'images' / 'dogs' / '00000.png'), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(UserError, match=r'00000\.jpg and 00000\.png differ only in their extension'):
        convert_masks(folders)


@pytest.mark.parametrize('method', [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA])
@pytest.mark.parametrize('size', [(50, 50), (170, 170), (333, 260)])
def test_interpolated_masks_are_refused_with_count_and_remedy(tmp_path, method, size):
    mask = cv2.resize(disc(100), size, interpolation=method)
    save_video(tmp_path, 'v', [mask])
    with pytest.raises(UserError, match=r'v.*: \d+ of \d+ numbers are thin lines .*nearest-neighbour') as error:
        convert_masks(tmp_path)
    assert f' of {len(np.unique(mask)) - 1} numbers' in str(error.value)


def test_masks_resized_by_nearest_neighbour_are_accepted(tmp_path, capsys):
    both = np.maximum(disc(100, 2), np.roll(disc(100, 1), 20, axis=1))
    save_video(tmp_path, 'v', [cv2.resize(both, (170, 133), interpolation=cv2.INTER_NEAREST)])
    assert len(read_youtube_vis(convert_masks(tmp_path)).object_ids) == 2
    assert 'warning' not in capsys.readouterr().out


def test_small_objects_that_touch_are_no_interpolation(tmp_path, capsys):
    """A flock: objects of 2×2 pixels side by side, and a thin one beside a large one."""
    flock = {number: (2 * number, 4, 2, 2) for number in range(1, 10)}
    flock = index_mask(flock | {10: (0, 10, 30, 8), 11: (0, 9, 30, 1)})
    save_video(tmp_path, 'v', [flock])
    assert len(read_youtube_vis(convert_masks(tmp_path)).object_ids) == 11 and 'warning' not in capsys.readouterr().out


def test_few_interpolated_numbers_are_a_warning(tmp_path, capsys):
    mask = index_mask({1: (0, 0, 5, 5), 2: (8, 0, 5, 5), 9: (12, 10, 8, 8)})
    mask[9, 11:21] = 5
    save_video(tmp_path, 'v', [mask])
    convert_masks(tmp_path)
    assert 'warning: ' in (out := capsys.readouterr().out) and '1 of 4 objects (number 5) are thin lines' in out


def test_memory_is_bounded_by_the_image(tmp_path):
    """2000 numbers in one mask of 4 megapixels: far less than 2000 masks of that size."""
    rows, columns = np.ogrid[:2000, :2000]
    save_video(tmp_path, 'v', [(rows // 40 * 40 + columns // 50 + 1).astype(np.uint16)])
    tracemalloc.start()
    try:
        video = read_video((tmp_path / 'images' / 'v', tmp_path / 'masks' / 'v'))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(video.rles) == 2000 and peak < 30 * 2000 * 2000


def test_void_is_named(folders, capsys):
    void = index_mask({1: (2, 3, 5, 4), 255: (10, 10, 6, 6)})
    Image.fromarray(void).save(folders / 'masks' / 'cats' / '00000.png')
    read = read_youtube_vis(convert_masks(folders))
    assert 'the number 255 became an object' in (out := capsys.readouterr().out) and '--ignore 255' in out
    assert len(read.object_ids) == 4
    assert len(read_youtube_vis(convert_masks(folders, '--ignore', 255)).object_ids) == 3
    assert 'warning' not in capsys.readouterr().out
    (folders / 'meta.json').write_text('{"videos": {"cats": {"objects": {}}}}')
    with pytest.raises(UserError, match=r'--ignore 1$'):
        convert_masks(folders, '--meta', folders / 'meta.json')


def test_binary_masks_of_255_are_one_object(tmp_path, capsys):
    save_video(tmp_path, 'v', [disc(40)])
    assert len(read_youtube_vis(convert_masks(tmp_path)).object_ids) == 1 and 'warning' not in capsys.readouterr().out


def test_frames_turned_by_exif_have_the_size_that_the_loader_gives_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_video(tmp_path, 'v', [index_mask({1: (2, 3, 5, 4)})], exif=exif)
    read = read_youtube_vis(convert_masks(tmp_path))
    assert read.sizes.tolist() == [[20, 30]]
    assert read_frame(str(tmp_path / 'images' / read.file_name(0, 0)), 20, 30).shape == (20, 30, 3)


def test_frames_turned_by_exif_without_another_size_are_a_warning(folders, capsys):
    """By half a turn, or square: mask and image do not tell whether the loader has to turn the image."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folders / 'images' / 'dogs' / '00000.jpg', exif=exif)
    convert_masks(folders)
    assert 'dogs: 1 image with an EXIF orientation and the size of the mask' in capsys.readouterr().out


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_list_of_categories_with_a_byte_order_mark(folders, encoding):
    (folders / 'names.txt').write_bytes('löwe\r\nobject\r\n'.encode(encoding))
    assert read_youtube_vis(convert_masks(folders, '--categories', folders / 'names.txt')).classes == ('löwe', 'object')


def test_list_of_categories_in_latin_1_is_one_line(folders):
    (folders / 'names.txt').write_bytes('löwe\nobject\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'names\.txt: byte 1 is not UTF-8 text .*save the file as UTF-8'):
        convert_masks(folders, '--categories', folders / 'names.txt')


def test_a_folder_without_meta_files_is_one_line(folders):
    with pytest.raises(UserError, match=r'--meta .*masks: the folder has no <video>/meta\.json'):
        convert_masks(folders, '--meta', folders / 'masks')


def test_object_that_meta_lacks(folders):
    (folders / 'meta.json').write_text('{"videos": {"cats": {"objects": {"1": {"category": "cat"}}}}}')
    with pytest.raises(UserError, match=r'meta\.json has no videos\.cats\.objects\.5\.category'):
        convert_masks(folders, '--meta', folders / 'meta.json')


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco_frames():
    """Two videos; frames of the first in the wrong order; object 7 exists in both videos."""
    return dict(
        images=[dict(id=2, file_name='v/b.jpg', width=30, height=20, video_id=1, frame_id=10),
                dict(id=1, file_name='v/a.jpg', width=30, height=20, video_id=1, frame_id=2),
                dict(id=3, file_name='w/a.jpg', width=40, height=20, video_id='w', frame_id=0)],
        categories=[dict(id=4, name='cat', supercategory='animal'), dict(id=9, name='dog')],
        annotations=[dict(id=1, image_id=1, category_id=9, instance_id=7, segmentation=square(2, 2, 6)),
                     dict(id=2, image_id=2, category_id=9, instance_id=7, segmentation=square(3, 2, 6)),
                     dict(id=3, image_id=2, category_id=4, instance_id=8, segmentation=square(20, 2, 6), iscrowd=1),
                     dict(id=4, image_id=3, category_id=4, instance_id=7, segmentation=square(9, 9, 5))])


def convert_frames(tmp_path, content, *options):
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert run('cocoframes2yvis', tmp_path / 'coco.json', '--out', tmp_path / 'vis.json', *options) == 0
    return json.loads((tmp_path / 'vis.json').read_text())


def test_frames_become_tracks(tmp_path):
    content = convert_frames(tmp_path, coco_frames())
    assert [video['file_names'] for video in content['videos']] == [['v/a.jpg', 'v/b.jpg'], ['w/a.jpg']]
    assert [(a['video_id'], a['category_id'], a['iscrowd'], a['bboxes']) for a in content['annotations']] == [
        (1, 9, 0, [[2, 2, 6, 6], [3, 2, 6, 6]]), (1, 4, 1, [None, [20, 2, 6, 6]]), (2, 4, 0, [[9, 9, 5, 5]])]
    assert read_youtube_vis(tmp_path / 'vis.json').cat_ids == (4, 9)


def test_frames_without_ids_go_by_folder_and_name(tmp_path):
    content = coco_frames()
    for image in content['images']:
        del image['video_id'], image['frame_id']
    for annotation in content['annotations']:
        annotation['thing'] = str(annotation.pop('instance_id'))
    converted = convert_frames(tmp_path, content, '--track-key', 'thing')
    assert [video['file_names'] for video in converted['videos']] == [['v/a.jpg', 'v/b.jpg'], ['w/a.jpg']]
    assert len(converted['annotations']) == 3


def test_frames_without_numbers_are_in_natural_order(tmp_path):
    images = [dict(id=number, file_name=f'v/{number}.jpg', width=30, height=20)
              for number in (0, 10, 11, *range(1, 10))]
    annotations = [dict(id=1, image_id=3, category_id=4, instance_id=1, segmentation=square(2, 2, 6))]
    content = convert_frames(tmp_path, coco_frames() | dict(images=images, annotations=annotations))
    assert content['videos'][0]['file_names'] == [f'v/{number}.jpg' for number in range(12)]


def test_backslashes_between_folders_are_named(tmp_path):
    content = coco_frames()
    for image in content['images']:
        image['file_name'] = image['file_name'].replace('/', '\\')
        del image['video_id'], image['frame_id']
    with pytest.raises(UserError, match='has backslashes; write slashes between folders'):
        convert_frames(tmp_path, content)


def change(*path, value):
    def apply(content):
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return apply


@pytest.mark.parametrize('damage, words', [
    (change('annotations', 1, 'instance_id', value=None), 'annotation 2 has no instance_id; make it part'),
    (change('annotations', 1, 'category_id', value=4), 'annotation 2 gives its object the category 4, annotation 1 9'),
    (change('annotations', 2, 'instance_id', value=7), 'annotation 3 gives its object'),
    (change('annotations', 1, 'image_id', value=99), 'annotation 2: image_id 99'),
    (change('annotations', 1, 'category_id', value=99), 'annotation 2: category_id 99'),
    (change('annotations', 1, 'segmentation', value=None), 'annotation 2 has no mask, and its bbox None'),
    (change('annotations', 1, 'segmentation', value=[[1, 2]]), r'image 2, its annotations\[0\]: a polygon'),
    (change('images', 0, 'frame_id', value=2), 'video 1: frame_id'),
    (change('images', 0, 'frame_id', value='x'), 'image 2: frame_id'),
    (change('images', 0, 'height', value=21), 'image 2 has 30x21 pixels'),
    (change('images', 0, 'height', value='20'), 'image 2: image size'),
    (change('images', 0, 'file_name', value=None), 'image 2 has no file_name'),
    (change('images', 1, 'id', value=2), r'images\[1\] and \[0\] have the same id 2'),
    (change('categories', 0, 'name', value=3), 'category 4 has no name'),
    (change('annotations', value=[]), 'no annotations'),
    (change('images', value={}), "needs a list 'images'")])
def test_faulty_frames(tmp_path, damage, words):
    content = coco_frames()
    damage(content)
    with pytest.raises(UserError, match=words) as error:
        convert_frames(tmp_path, content)
    assert '\n' not in str(error.value) and 'coco.json' in str(error.value)


def test_coco_images(tmp_path, capsys):
    content = coco_frames()
    content['categories'] = [dict(id=17, name='cat'), dict(id=18, name='dog')]
    for annotation in content['annotations']:
        annotation['category_id'] = 18
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    assert run('coco2yvis', tmp_path / 'coco.json', '--target', 'yvis2021', '--out', tmp_path / 'vis.json') == 0
    assert '3 videos, 3 frames, 3 objects, 40 categories' in capsys.readouterr().out
    read = read_youtube_vis(tmp_path / 'vis.json')
    assert {read.classes[label] for label in read.object_labels} == {'dog'}
