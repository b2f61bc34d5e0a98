"""Several videos in one command: their list, and unique names for their output files."""
import cv2
import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.video.video_list import check_outputs, list_videos


def names_of(root, *words):
    return [video.name for video in list_videos(str(word) if '://' in str(word) else str(root / word)
                                                for word in words)]


@pytest.fixture
def films(tmp_path):
    for name in ('a/cat.mp4', 'a/Cat.mov', 'b/cat.mp4', 'c/b/cat.mp4', 'b/b_cat.mp4', 'dog.mp4', 'a/猫.mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(('words', 'names'), [
    (['dog.mp4', 'a/cat.mp4'], ['dog', 'cat']),
    (['a/cat.mp4', 'b/cat.mp4'], ['a_cat', 'b_cat']),
    (['a/cat.mp4', 'a/Cat.mov'], ['a_cat', 'a_Cat_2']),
    (['b/cat.mp4', 'c/b/cat.mp4', 'b/b_cat.mp4'], ['b_cat', 'b_cat_2', 'b_cat_3']),
    (['dog.mp4', 'dog.mp4'], None),
    (['a'], ['a_Cat', 'a_cat_2', '猫']),
    (['rtsp://camera/1', 'http://x/1'], ['camera_1', 'x_1'])], ids=str)
def test_names_differ(films, words, names):
    found = names_of(films, *words)
    assert len({name.casefold() for name in found}) == len(found)
    if names is not None:
        assert found == names


def test_images_of_one_folder_are_one_video(tmp_path):
    for name in ('x/1.png', 'x/10.png', 'x/2.png', 'y/1.png', 'y/2.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), int(name[2:-4]), np.uint8))
    words = [str(tmp_path / name) for name in ('x/1.png', 'x/10.png', 'x/2.png', 'y/1.png', 'x/2.png')]
    videos = list_videos(words)
    assert [video.name for video in videos] == ['x', '1']
    assert [frame.image.max() for frame in videos[0].open(0, None, 1, 'error')] == [1, 2, 10]


def test_a_missing_video_among_several_is_named(films):
    with pytest.raises(UserError, match=r'nowhere\.mp4: no such video'):
        names_of(films, 'dog.mp4', 'nowhere.mp4')


def test_no_video_of_the_list_is_overwritten(films):
    for outputs in (['mp4'], ['gif', 'mp4']):
        with pytest.raises(UserError, match=r'b/cat\.mp4 itself, a video that is read, would be overwritten'):
            check_outputs(['cat'], [films / 'a/cat.mp4', films / 'b/cat.mp4'], films / 'b', outputs)
    check_outputs(['cat'], [films / 'b/cat.mp4', None], films / 'b', ['json', 'gif', 'png'])
