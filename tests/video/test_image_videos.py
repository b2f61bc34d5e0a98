"""Videos of images: folders, stacks, animations, masks among frames, unreadable frames."""
import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet.errors import UserError
from mmdet.video import image_reader
from mmdet.video.source import find_videos, open_video
from tests.helpers.films import film_frame, frame_of


@pytest.fixture
def said(monkeypatch):
    """Collect the messages logged."""
    lines = []
    monkeypatch.setattr(image_reader, 'print_log', lambda text, **_: lines.append(text))
    return lines


def write(path, index=0, size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), film_frame(index, size[1], size[0]))
    return path


def pictures(count, mode='RGB'):
    return [Image.fromarray(film_frame(index)[..., ::-1]).convert(mode) for index in range(count)]


def test_hidden_files_other_endings_and_upper_case(tmp_path, said):
    for number, name in enumerate(('0.jpg', '1.JPG', '2.jpeg', '9.Jpg', '10.JPEG', '11.jpg')):
        write(tmp_path / 'cat' / f'x{number}.jpg', number).rename(tmp_path / 'cat' / name)
    for name in ('._0.jpg', '.hidden.jpg', 'notes.txt', 'Thumbs.db'):
        (tmp_path / 'cat' / name).write_text('no image')
    write(tmp_path / 'cat' / '.ipynb_checkpoints' / '0-checkpoint.jpg')
    assert [frame_of(frame.image) for frame in open_video(tmp_path / 'cat')] == list(range(6))
    assert [frame_of(frame.image) for frame in open_video(f'{tmp_path}/cat/*')] == list(range(6)) and not said


@pytest.mark.parametrize('video', ['cat', 'cat/*'])
def test_frames_and_masks_of_one_name_are_refused_before_the_first_frame(video, tmp_path):
    for number in range(3):
        write(tmp_path / 'cat' / f'cat{number:02d}.jpg')
        write(tmp_path / 'cat' / f'cat{number:02d}.png')
    with pytest.raises(UserError, match=r'holds cat00\.(jpg|png) and cat00\.(jpg|png), perhaps a frame and its mask; '
                                        r'choose the frames with a glob: ".*/cat/\*\.jpg"'):
        open_video(tmp_path / video)
    assert len(list(open_video(f'{tmp_path}/cat/*.jpg'))) == 3


def test_images_of_several_types_without_equal_names_cause_a_warning(tmp_path, said):
    for name in ('1.jpg', '2.png', '3.jpg', '10.bmp'):
        write(tmp_path / 'cat' / name)
    assert [frame.path[-6:] for frame in open_video(tmp_path / 'cat')] == ['/1.jpg', '/2.png', '/3.jpg', '10.bmp']
    assert said == [f'{tmp_path}/cat: takes 2 *.jpg and 1 *.png and 1 *.bmp as one video; to choose, give a glob such '
                    'as "*.jpg"']


def test_images_and_videos_in_one_folder_are_refused(tmp_path):
    write(tmp_path / 'a.jpg')
    (tmp_path / 'b.mp4').touch()
    with pytest.raises(UserError, match=r'holds 1 image and 1 video, such as a.jpg and b.mp4; .*"/.*/\*\.mp4"'):
        open_video(tmp_path)


def test_globs_below_folders_with_brackets(tmp_path):
    for index, name in enumerate(('vid[1]/1.png', 'vid[1]/2.png', 'vid1/3.png')):
        write(tmp_path / name, index)
    assert [frame_of(frame.image) for frame in open_video(f'{tmp_path}/vid[1]/*.png')] == [0, 1]
    assert [frame_of(frame.image) for frame in open_video(tmp_path / 'vid[1]')] == [0, 1]


def test_frames_in_several_folders_keep_the_order_of_the_folders(tmp_path):
    for index, name in enumerate(('part2/8.png', 'part2/9.png', 'part10/1.png', 'part10/2.png')):
        write(tmp_path / name, index)
    assert [frame_of(frame.image) for frame in open_video(f'{tmp_path}/part*/*.png')] == [0, 1, 2, 3]


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text'])
def test_an_unreadable_frame_is_an_error_or_left_out(damage, tmp_path, said):
    for number in range(5):
        write(tmp_path / 'cat' / f'{number}.png', number)
    bad = tmp_path / 'cat' / '3.png'
    bad.write_bytes({'cut': bad.read_bytes()[:60], 'empty': b'', 'text': b'no image at all'}[damage])
    with pytest.raises(UserError, match=r'3\.png is damaged'):
        list(open_video(tmp_path / 'cat'))
    source = open_video(tmp_path / 'cat', on_bad_frame='skip')
    frames = list(source)
    assert [frame.index for frame in frames] == [frame_of(frame.image) for frame in frames] == [0, 1, 2, 4]
    assert source.length is None and source.expected == 5
    assert len(said) == 1 and f'{tmp_path}/cat: left out: 1 image that cannot be read; the first: ' in said[0]


def test_nothing_but_unreadable_frames_is_an_error(tmp_path, said):
    (tmp_path / '1.png').write_text('no image')
    with pytest.raises(UserError, match='no frame to read'):
        list(open_video(tmp_path, on_bad_frame='skip'))
    with pytest.raises(UserError, match="--on-bad-frame black: give 'error' or 'skip'"):
        open_video(tmp_path, on_bad_frame='black')


@pytest.mark.parametrize(('name', 'mode', 'options'), [
    ('stack.tif', 'RGB', {}), ('stack.tiff', 'L', {}), ('deflate.tif', 'RGB', dict(compression='tiff_deflate')),
    ('film.webp', 'RGB', dict(duration=40, lossless=True)), ('film.webp', 'RGBA', dict(duration=40, lossless=True)),
    ('film.png', 'RGB', dict(duration=40)), ('film.PNG', 'RGBA', dict(duration=40, default_image=False)),
    ('film.gif', 'RGB', dict(duration=40))])
def test_images_of_several_frames(name, mode, options, tmp_path):
    first, *others = pictures(7, mode)
    first.save(tmp_path / name, save_all=True, append_images=others, **options)
    source = open_video(tmp_path / name)
    frames = list(source)
    assert [frame_of(frame.image) for frame in frames] == list(range(7))
    if mode == 'RGB' and not name.endswith('gif'):
        assert np.array_equal(frames[5].image, film_frame(5))
    if 'duration' in options:
        assert source.fps == pytest.approx(25)
        assert [frame.time for frame in frames] == pytest.approx([index / 25 for index in range(7)])
    else:
        assert source.fps == 10 and frames[3].time is None
    assert [frame.index for frame in open_video(tmp_path / name, 1, 6, 2)] == [1, 3, 5]


def test_durations_of_each_frame_are_kept(tmp_path):
    durations = [20, 500, 40, 1000, 30]
    first, *others = pictures(5)
    for name in ('film.png', 'film.webp'):
        options = dict(lossless=True) if name.endswith('webp') else {}
        first.save(tmp_path / name, save_all=True, append_images=others, duration=durations, **options)
        times = [frame.time for frame in open_video(tmp_path / name)]
        assert times == pytest.approx([0, 0.02, 0.52, 0.56, 1.56])


def test_sixteen_bits_of_a_stack_are_read_as_those_of_an_image(tmp_path):
    images = [np.full((48, 64), 257 * (10 + 60 * index), np.uint16) for index in range(3)]
    cv2.imwritemulti(str(tmp_path / 'stack.tif'), images)
    cv2.imwrite(str(tmp_path / 'one.tif'), images[1])
    frames = [frame.image for frame in open_video(tmp_path / 'stack.tif')]
    assert [int(frame.max()) for frame in frames] == [int(frame.min()) for frame in frames] == [10, 70, 130]
    assert np.array_equal(frames[1], next(open_video(tmp_path / 'one.tif')).image)


def test_several_stacks_are_refused(tmp_path):
    first, *others = pictures(3)
    first.save(tmp_path / 'a.tif')  # of a folder, each file may be the one that holds several frames
    first.save(tmp_path / 'b.tif', save_all=True, append_images=others)
    with pytest.raises(UserError, match=r'b\.tif: holds 3 frames and is one of 2 files; give each file as a video'):
        open_video(tmp_path)


@pytest.mark.parametrize('kind', ['image', 'stack', 'folder', 'exr'])
def test_floating_point_values_are_refused(kind, tmp_path):
    path = tmp_path / ('frame.exr' if kind == 'exr' else 'frame.tif')
    value = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    if kind == 'stack':
        image = Image.fromarray(value)
        image.save(path, save_all=True, append_images=[image])
    elif kind == 'exr':
        path.write_bytes(b'\x76\x2f\x31\x01')
    else:
        cv2.imwrite(str(path), value)
    with pytest.raises(UserError, match=r'frame\.\w+:? holds floating-point values, .*; convert') as error:
        list(open_video(tmp_path if kind == 'folder' else path))
    assert '\n' not in str(error.value)


def test_folders_and_globs_of_several_videos(tmp_path):
    for name in ('videos/b9.mp4', 'videos/b10.MP4', 'videos/._b9.mp4', 'videos/.DS_Store', 'videos/notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ('JPEGImages/x2/0.jpg', 'JPEGImages/x10/0.jpg', 'JPEGImages/.ipynb_checkpoints/0.jpg'):
        write(tmp_path / name)
    assert [video.name for video in find_videos(tmp_path / 'videos')] == ['b9', 'b10']
    assert [video.name for video in find_videos(f'{tmp_path}/videos/*')] == ['b9', 'b10']
    assert [video.name for video in find_videos(tmp_path / 'JPEGImages')] == ['x2', 'x10']
    assert [video.name for video in find_videos(f'{tmp_path}/JPEGImages/*')] == ['x2', 'x10']
    with pytest.raises(UserError, match=r'videos: holds 2 videos, such as .*b9\.mp4; give one of them'):
        open_video(tmp_path / 'videos')
