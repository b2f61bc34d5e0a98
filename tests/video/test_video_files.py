"""Video files of all kinds, with PyAV: codecs, damage, times, rotation, cover pictures; OpenCV where it is absent."""
import importlib.util
import logging
import os
import socket
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mmdet.errors import UserError
from mmdet.video import opencv_reader
from mmdet.video.source import open_untrusted, open_video

av = pytest.importorskip('av')
from mmdet.video import pyav_reader  # noqa: E402
from tests.helpers.films import damage, frame_of, frames_touched, turn, write_film  # noqa: E402


@pytest.fixture
def said(monkeypatch):
    """Collect the messages logged."""
    lines = []

    def note(text, logger, level):
        assert level == logging.WARNING
        lines.append(text)

    for module in (pyav_reader, opencv_reader):
        monkeypatch.setattr(module, 'print_log', note)
    return lines


@pytest.fixture
def without_pyav(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *args: None if name == 'av' else find(name, *args))
    monkeypatch.setitem(sys.modules, 'mmdet.video.pyav_reader', None)


def shown_frames(source):
    return [frame_of(frame.image) for frame in source]


@pytest.mark.parametrize(('name', 'options'), [
    ('a.mp4', {}),
    ('av1.mp4', dict(codec='libsvtav1', preset='12')),
    ('av1.webm', dict(codec='libsvtav1', preset='12')),
    ('vp9.webm', dict(codec='libvpx-vp9')),
    ('ten.mp4', dict(pixels='yuv420p10le')),
    ('ten444.mkv', dict(pixels='yuv444p10le')),
    ('rgb.mkv', dict(codec='ffv1', pixels='bgr0')),
    ('odd.mkv', dict(codec='ffv1', pixels='bgr0', size=(63, 47))),
    ('odd.mp4', dict(pixels='yuv444p', size=(63, 47))),
    ('old.avi', dict(codec='mpeg4')),
    ('b.ts', {}),
    ('sound.mp4', dict(audio=True)),
    ('cover.mp4', dict(cover=True)),
    ('a.gif', dict(codec='gif', pixels='rgb8')),
], ids=lambda value: value if isinstance(value, str) else '')
def test_kinds_of_files(name, options, tmp_path, said):
    path = write_film(tmp_path / name, **options)
    frames = list(open_video(path))
    width, height = options.get('size', (64, 48))
    assert [frame_of(frame.image) for frame in frames] == list(range(12))
    assert all(frame.image.shape == (height, width, 3) for frame in frames)
    assert [frame.time for frame in frames] == pytest.approx([index / 25 for index in range(12)], abs=2e-3)
    assert frames[0].image[-1, -1].min() > 60  # noise to the last pixel, no border
    assert not said


def test_a_file_with_nothing_but_a_cover_picture(tmp_path):
    path = tmp_path / 'song.m4a'
    with av.open(str(path), 'w', format='mp4') as container:
        picture = container.add_stream('mjpeg', rate=1)
        picture.width, picture.height, picture.pix_fmt = 32, 32, 'yuvj420p'
        picture.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format='bgr24')
        container.mux(picture.encode(image.reformat(format='yuvj420p')))
        container.mux(picture.encode())
    with pytest.raises(UserError, match='holds only a cover picture'):
        open_video(path)


@pytest.mark.parametrize('place', [0.2, 0.3, 0.4, 0.5, 0.6])
def test_damage_in_the_middle_loses_only_the_damaged_frames(place, tmp_path, said):
    path = write_film(tmp_path / 'film.mp4', 60, rate=30, g='12')
    whole = path.read_bytes()
    gap = damage(path, place)
    frames = list(open_video(path))
    numbers = [frame_of(frame.image) for frame in frames]
    assert numbers[-1] == 59 and len(frames) < 60
    path.write_bytes(whole)
    touched = frames_touched(path, gap)
    assert 59 not in touched and {*range(60)} - {*numbers} <= touched
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert said == [f'{path}: left out: {60 - len(frames)} damaged frames of 60']
    # the time of each frame is its own: there is a gap where frames are missing
    assert frames[-1].time - frames[0].time == pytest.approx((59 - numbers[0]) / 30, abs=0.1)


def test_damage_at_the_end_loses_no_frames_that_threads_hold(tmp_path, said, monkeypatch):
    """With threads, PyAV drops the remaining frames if one of the last is damaged; with one thread it does not."""
    path = write_film(tmp_path / 'film.mp4', 60, rate=30, g='12')
    whole = path.read_bytes()
    for place in (0.75, 0.8, 0.85, 0.9, 0.95):
        path.write_bytes(whole)
        damage(path, place)
        times = []
        for kind, count in (('SLICE', 1), ('FRAME', 16)):
            choose = pyav_reader.PyAVReader._choose_stream

            def with_threads(self, container, choose=choose, kind=kind, count=count):
                stream = choose(self, container)
                stream.codec_context.thread_count, stream.thread_type = count, kind
                return stream

            with monkeypatch.context() as patch:
                patch.setattr(pyav_reader.PyAVReader, '_choose_stream', with_threads)
                times.append([frame.time for frame in open_video(path)])
        assert times[0] == times[1] and 40 < len(times[0]) < 60


@pytest.mark.parametrize('place', [1, 2, 30, 58, 60, 61])
def test_frames_that_are_dropped_with_an_error_are_decoded_again(tmp_path, said, monkeypatch, place):
    """As frame threads do it, if one of the frames that they decode together is damaged."""
    path = write_film(tmp_path / 'film.mp4', 60, rate=30, g='12')
    frames_of, calls = pyav_reader.PyAVReader._frames_of, []

    def dropping(self, packet, after=None):
        calls.append(packet)
        if len(calls) == place:
            self._stream.codec_context.decode(packet)
            self._errors += 1
            return
        yield from frames_of(self, packet, after)

    monkeypatch.setattr(pyav_reader.PyAVReader, '_frames_of', dropping)
    frames = list(open_video(path))
    assert [frame_of(frame.image) for frame in frames] == list(range(60)) and said == []
    assert [frame.time for frame in frames] == pytest.approx([index / 30 for index in range(60)], abs=1e-3)


def test_a_truncated_file_gives_its_frames_and_a_warning(tmp_path, said):
    path = write_film(tmp_path / 'film.mkv', 60, rate=30, codec='ffv1', pixels='bgr0', g='1')
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    source = open_video(path)
    count = len(list(source))
    assert 20 < count < 40
    assert said == [f'{path}: {fault}' for fault in source.faults]
    assert len(said) == 1 and 'it is cut off after' in said[0] and f'of 2.00 seconds (frame {count})' in said[0]


def test_reading_a_part_of_a_film_causes_no_warning(tmp_path, said):
    path = write_film(tmp_path / 'film.mp4', 60, rate=30)
    assert shown_frames(open_video(path, 3, 20, 4)) == [3, 7, 11, 15, 19]
    assert not said


def test_no_frame_can_be_decoded(tmp_path):
    path = write_film(tmp_path / 'film.mp4', 5)
    damage(path, 0, 10 ** 6)
    with pytest.raises(UserError, match=r'no frame of 5 can be decoded; .* \(h264\)'):
        list(open_video(path))


@pytest.mark.parametrize('name', ['film.mp4', 'film.mkv'])
def test_variable_frame_rate_keeps_its_times(name, tmp_path, said):
    times = np.cumsum([0, *[33, 33, 100, 10, 1400] * 3]).tolist()
    path = write_film(tmp_path / name, 16, milliseconds=times)
    frames = list(open_video(path))
    assert [frame.time for frame in frames] == pytest.approx([time / 1000 for time in times], abs=1e-3)
    assert not said  # and no warning that it is cut off


def test_a_thousand_frames_a_second(tmp_path):
    source = open_video(write_film(tmp_path / 'fast.mp4', 30, rate=1000))
    assert source.fps == 1000
    assert [frame.time for frame in source] == pytest.approx([index / 1000 for index in range(30)])


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_films_of_phones_are_rotated(degrees, tmp_path):
    path = write_film(tmp_path / 'film.mp4', 5)
    before = [frame.image for frame in open_video(path)]
    turn(path, 64, 48, degrees)
    for frame, image in zip(open_video(path), before, strict=True):
        assert np.array_equal(frame.image, np.rot90(image, -degrees // 90))


def test_the_count_is_that_of_decoded_frames(tmp_path, said):
    path = write_film(tmp_path / 'film.mp4', 60, rate=30, g='12')
    damage(path, 0.3)
    source = open_video(path)
    assert (source.length, source.expected) == (None, 60)
    assert len(list(source)) < 60


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux')
@pytest.mark.parametrize('name', [b'caf\xe9.mp4', 'Screen\u202f9.41\u00a0AM\u3000x.mp4'.encode(), b'a:b.mp4',
                                  ('猫' * 80 + '.mp4').encode(), b"quote's %d [1].mp4"])
def test_unusual_file_names(name, tmp_path):
    written = write_film(tmp_path / 'film.mp4', 3)
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    written.rename(path)
    source = open_video(path)
    assert shown_frames(source) == [0, 1, 2]
    assert len(source.name.encode()) <= 200 and (tmp_path / f'{source.name}.jsonl').write_text('') == 0


def test_frames_of_a_film_over_http(tmp_path):
    write_film(tmp_path / 'film.mp4')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = None
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        source = open_video(f'{address}/film.mp4')
        assert source.path is None and shown_frames(source) == list(range(12))
        with pytest.raises(UserError, match=r'missing.mp4: cannot be reached \(.*404.*\); check the address'):
            open_video(f'{address}/missing.mp4')
        server.shutdown()


@pytest.mark.parametrize('scheme', ['http', 'rtsp', 'rtmp', 'tcp'])
def test_an_address_that_does_not_exist_is_a_network_error(scheme):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r'cannot be reached \(.*\); check the address and the network$') as error:
        open_video(f'{scheme}://127.0.0.1:{port}/x.mp4')
    assert 'is it a video' not in str(error.value)


@pytest.mark.parametrize(('start', 'end', 'stride'), [(0, None, 1), (2, 11, 3)])
def test_opencv_gives_the_same_where_pyav_is_absent(start, end, stride, tmp_path, without_pyav, said):
    path = write_film(tmp_path / 'film.mp4')
    source = open_video(path, start, end, stride)
    frames = list(source)
    expected = list(range(12))[start:end:stride]
    assert [frame_of(frame.image) for frame in frames] == [frame.index for frame in frames] == expected
    assert [frame.time for frame in frames] == pytest.approx([index / 25 for index in expected])
    assert not said


def test_opencv_warns_about_lost_frames(tmp_path, without_pyav, said):
    path = write_film(tmp_path / 'film.avi', 60, codec='mjpeg', pixels='yuvj420p')
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    count = len(list(open_video(path)))
    assert 10 < count < 50
    assert said == [f'{path}: ends after frame {count} of about 60; it is cut off or damaged there, and the frames '
                    'after it are lost without PyAV: pip install av']


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are bytes on Linux')
def test_opencv_refuses_a_name_that_it_would_crash_at(tmp_path, without_pyav):
    path = tmp_path / os.fsdecode(b'caf\xe9.mp4')
    path.write_text('no video')
    with pytest.raises(UserError, match=r'caf\\udce9\.mp4: OpenCV takes paths in UTF-8 only'):
        open_video(path)


def test_opencv_and_the_network(without_pyav):
    with pytest.raises(UserError, match='cannot be opened; check the address and the network'):
        open_video('http://127.0.0.1:9/x.mp4')


def test_packets_without_a_picture_are_not_damage(tmp_path, said):
    """VP8 has reference frames that are never shown, each in a packet of its own."""
    options = {'auto-alt-ref': '1', 'lag-in-frames': '16', 'deadline': 'good', 'g': '30'}
    path = write_film(tmp_path / 'film.webm', 60, codec='libvpx', **options)
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    assert shown_frames(open_video(path)) == list(range(60)) and not said
    assert packets >= 60


@pytest.mark.parametrize('kind', ['HLS', 'HLS, relative', 'concat'])
def test_a_playlist_of_someone_else_shows_no_file_of_this_machine(kind, tmp_path):
    path = write_film(tmp_path / 'film.ts')
    name = 'film.ts' if kind != 'HLS' else path.as_uri()
    text = f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n'
    upload = tmp_path / 'upload.m3u8'
    upload.write_text(f"ffconcat version 1.0\nfile '{name}'\n" if kind == 'concat' else text)
    assert shown_frames(open_video(upload)) == list(range(12))  # one's own may refer to other files
    with pytest.raises(UserError, match=r'upload.m3u8: cannot be opened; .*\? Playlists are refused$'):
        list(open_untrusted(str(upload)))
    assert shown_frames(open_untrusted(str(path), end=5)) == list(range(5))


@pytest.mark.parametrize('video', ['', 'folder', 'folder/*', '0', 'http://127.0.0.1:9/x.mp4'])
def test_an_untrusted_path_is_one_file(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    write_film(tmp_path / 'folder' / 'film.mp4')
    with pytest.raises(UserError, match=': cannot be opened; '):
        open_untrusted(video)


def test_files_of_others_need_pyav(tmp_path, without_pyav):
    with pytest.raises(UserError, match=r'OpenCV would also read the files that it refers to; pip install av'):
        open_untrusted(str(write_film(tmp_path / 'film.mp4')))
