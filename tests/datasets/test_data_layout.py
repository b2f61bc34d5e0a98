"""Where annotation files and image folders are found."""
import pytest

from mmdet.datasets.layout import find_annotations, find_images
from mmdet.errors import UserError


@pytest.mark.parametrize('prefix, folder', [
    ('train_images', 'train_images'), ('train_images', 'train/JPEGImages'), ('valid_images', 'valid/JPEGImages'),
    ('train_images', 'train'), ('test_images', 'test'), ('', '.'), ('frames', 'frames')])
def test_images_are_found(tmp_path, prefix, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert find_images(str(tmp_path), prefix).samefile(tmp_path / folder)


def test_own_layout_comes_first(tmp_path):
    for folder in ('train/JPEGImages', 'train_images'):
        (tmp_path / folder).mkdir(parents=True)
    assert find_images(str(tmp_path), 'train_images') == tmp_path / 'train_images'


def test_inner_folder_of_the_archive_comes_before_the_outer(tmp_path):
    (tmp_path / 'train/JPEGImages').mkdir(parents=True)
    assert find_images(str(tmp_path), 'train_images') == tmp_path / 'train/JPEGImages'


@pytest.mark.parametrize('name', ['annotations/instances_valid.json', 'annotations/annotations_valid.json'])
@pytest.mark.parametrize('found', ['{name}', '{base}', 'valid/instances.json', 'valid.json'])
def test_annotations_are_found(tmp_path, name, found):
    path = tmp_path / found.format(name=name, base=name.split('/')[1])
    path.parent.mkdir(exist_ok=True)
    path.write_text('{}')
    assert find_annotations(str(tmp_path), name) == path


def test_absolute_path_needs_no_root(tmp_path):
    (tmp_path / 'my.json').write_text('{}')
    assert find_annotations('data/none', str(tmp_path / 'my.json')) == tmp_path / 'my.json'


@pytest.mark.parametrize('find, wanted, tried', [
    (find_images, 'train_images', ['train_images', 'train/JPEGImages', 'train']),
    (find_annotations, 'annotations/instances_train.json', ['instances_train.json', 'train/instances.json'])])
def test_error_names_the_path_and_both_layouts(tmp_path, find, wanted, tried):
    with pytest.raises(UserError) as error:
        find(str(tmp_path), wanted)
    message = str(error.value)
    assert '\n' not in message and '<split>_images' in message and '<split>/JPEGImages' in message
    assert all(str(tmp_path / path) in message for path in tried)
