"""Sources of videos, the selection of frames, and the errors of unreadable sources."""
import cv2
import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.video.source import open_video


def grey(value, size=(48, 64)):
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Create frames 1 to 12, each of the grey value 10 × its number, and a file that is not an image."""
    path = tmp_path / 'my cat'
    path.mkdir()
    for number in range(1, 13):
        cv2.imwrite(str(path / f'frame{number}.png'), grey(10 * number))
    (path / 'notes.txt').write_text('')
    return path


@pytest.fixture
def film(tmp_path):
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for number in range(12):
        writer.write(grey(20 * number))
    writer.release()
    return path


def test_folder_in_the_order_of_the_numbers(folder):
    source = open_video(folder)
    frames = list(source)
    assert source.name == 'my_cat' and source.length == 12
    assert [frame.image[0, 0, 0] for frame in frames] == [10 * number for number in range(1, 13)]
    assert frames[9].path == str(folder / 'frame10.png') and frames[9].index == 9


def test_glob_and_single_image(folder):
    assert [frame.image.max() for frame in open_video(f'{folder}/frame1*.png')] == [10, 100, 110, 120]
    assert [frame.image.max() for frame in open_video(folder / 'frame7.png')] == [70]


@pytest.mark.parametrize(('start', 'end', 'stride'), [(0, None, 1), (3, None, 1), (2, 9, 3), (0, 99, 5), (11, 12, 4)])
def test_chosen_frames_are_the_same_of_all_kinds(folder, film, start, end, stride):
    expected = list(range(12))[start:end:stride]
    for video in (folder, film, [grey(number) for number in range(12)]):
        source = open_video(video, start, end, stride)
        assert source.expected == len(expected)
        assert source.length == (None if video is film else len(expected))  # a header is only an estimate
        assert [frame.index for frame in source] == expected


def test_video_file(film):
    source = open_video(str(film), stride=5)
    assert (source.name, source.fps, source.expected) == ('film', 5, 3)
    assert [round(float(frame.image.mean()) / 20) for frame in source] == [0, 5, 10]


def test_arrays_may_be_reused_by_the_caller():
    buffer = np.zeros((4, 6, 3), np.uint8)

    def arrays():
        for number in range(3):
            buffer[:] = number
            yield buffer

    source = open_video(arrays())
    assert source.length is None
    assert [frame.image.max() for frame in list(source)] == [0, 1, 2]


def test_grey_arrays_get_three_channels():
    frame = next(open_video([np.arange(12, dtype=np.uint8).reshape(3, 4)]))
    assert frame.image.shape == (3, 4, 3) and (frame.image == frame.image[..., :1]).all()


@pytest.mark.parametrize(('array', 'words'), [
    (np.zeros((4, 4, 3)), 'float64'), (np.zeros((4, 4, 4), np.uint8), r'\(4, 4, 4\)'),
    (np.zeros((0, 4, 3), np.uint8), ''), (np.zeros(5, np.uint8), r'\(5,\)')])
def test_arrays_of_another_kind(array, words):
    with pytest.raises(UserError, match=f'frame 1 is .*{words}'):
        list(open_video([grey(0), array]))


def test_frames_of_different_sizes(folder):
    cv2.imwrite(str(folder / 'frame5.png'), grey(0, (50, 64)))
    with pytest.raises(UserError, match=r'frame5.png: frame 4 has 64x50 pixels, those before 64x48'):
        list(open_video(folder))


@pytest.mark.parametrize(('make', 'words'), [
    (lambda path: path / 'nowhere.mp4', 'no such video'),
    (lambda path: f'{path}/*.jpg', 'has no images or videos'),
    (lambda path: path / 'empty', 'has no images or videos'),
    (lambda path: path / 'text.mp4', 'cannot be opened'),
    (lambda path: path / 'nothing.mp4', r'nothing.mp4: is empty \(0 bytes\); copy or record it again'),
    (lambda path: 987, 'camera 987: cannot be opened'),
    (lambda path: '987', 'camera 987: cannot be opened'),
    (lambda path: 1.5, 'not float')], ids=['missing', 'glob', 'folder', 'text', 'empty', 'camera', 'number', 'type'])
def test_other_values_are_one_line_errors(tmp_path, make, words):
    (tmp_path / 'text.mp4').write_text('no video')
    (tmp_path / 'nothing.mp4').touch()
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=words) as error:
        open_video(make(tmp_path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('frames', 'flag'), [
    ((-1, None, 1), '--start -1'), ((0, 0, 1), '--end 0'), ((5, 3, 1), '--end 3'), ((0, None, 0), '--stride 0')])
def test_impossible_ranges(folder, frames, flag):
    with pytest.raises(UserError, match=f'^{flag}: '):
        open_video(folder, *frames)


@pytest.mark.parametrize('kind', ['folder', 'film'])
def test_start_behind_the_end(kind, request):
    with pytest.raises(UserError, match='no frame to read'):
        next(open_video(request.getfixturevalue(kind), start=50))
