"""Cameras and network streams: the newest frame, drops and latencies that are counted, reconnection, early ends."""
import json
import logging
import re
import socket
import threading
import time
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch

from mmdet.apis import init_model
from mmdet.concurrency import in_background
from mmdet.errors import UserError
from mmdet.video import live
from mmdet.video.frames import VideoFrame
from mmdet.video.live import LiveFrames, LiveReader, LiveStatistics
from mmdet.video.source import VideoSource, open_video
from tests.helpers.films import frame_of, write_film
from tools import video_demo

av = pytest.importorskip('av')
from mmdet.video import pyav_reader  # noqa: E402

ALL = slice(0, None, 1)
SOON = 10  # seconds, for half a second on a busy machine; the sources of these tests block for a minute or for ever


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(live, 'FIRST_PAUSE', 0.01)
    monkeypatch.setattr(pyav_reader, 'STALL', 0.4)


@pytest.fixture
def said(monkeypatch):
    """Collect the messages logged."""
    lines = []
    for module in (live, pyav_reader):
        monkeypatch.setattr(module, 'print_log', lambda text, logger, level: lines.append((level, text)))
    return lines


class Stream:
    """A reader with frames of 10 per second; ``gate`` holds each frame back until it is released."""

    fps, expected = 10.0, None

    def __init__(self, count, gate=None, timed=True, closed=None):
        self.count, self.gate, self.timed, self.closed = count, gate, timed, closed

    def read(self, chosen):
        try:
            for index in range(self.count):
                if self.gate is not None:
                    self.gate.acquire()
                yield VideoFrame(np.full((2, 2, 3), index, np.uint8), index, time=index / 10 if self.timed else None)
        finally:
            if self.closed is not None:
                self.closed.set()


def refuse():
    raise UserError('cannot be reached')


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def test_the_newest_frame_is_taken_and_the_others_are_counted():
    gate = threading.Semaphore(0)
    source = LiveFrames(LiveReader(Stream(7, gate), refuse, 'camera 0', 0), ALL)
    taken = source.frames()
    gate.release()
    first = next(taken)
    assert (first.index, first.dropped) == (0, 0)
    gate.release(5)  # frames 1 to 5 arrive while the network processes frame 0
    wait_until(lambda: source.statistics.received == 6)
    newest = next(taken)
    assert (newest.index, newest.dropped, newest.time) == (5, 4, 0.5)
    gate.release()
    last, = taken
    assert (last.index, last.dropped) == (6, 0)
    assert (source.statistics.dropped, source.statistics.received) == (4, 7)


def test_every_frame_waits_for_the_network():
    source = LiveFrames(LiveReader(Stream(40), refuse, 'camera 0', 0), slice(1, 39, 2), every_frame=True)
    taken = source.frames()
    found = [next(taken)]
    time.sleep(0.05)
    assert source.statistics.received <= 1 + live.FRAMES_WAITING
    found += taken
    assert [frame.index for frame in found] == list(range(1, 39, 2))
    assert source.statistics.dropped == 0 and all(frame.dropped == 0 for frame in found)


def test_latencies_are_from_arrival_to_result():
    statistics = LiveStatistics(received=200, dropped=100)
    assert str(statistics) == '100 of 200 frames dropped'
    statistics.latencies.extend(milliseconds / 1000 for milliseconds in range(101))  # 0 to 100 ms
    assert statistics.percentile(50) == pytest.approx(0.05) and statistics.percentile(99) == pytest.approx(0.099)
    assert str(statistics) == '100 of 200 frames dropped, latency p50 50 ms, p99 99 ms'
    source = LiveFrames(LiveReader(Stream(1), refuse, 'camera 0', 0), ALL)
    begin = time.monotonic()
    frame, = source.frames()
    time.sleep(0.05)
    source.delivered(frame.index)
    assert 0.05 <= source.statistics.percentile(50) <= time.monotonic() - begin


@pytest.mark.parametrize('timed', [True, False], ids=['with time stamps', 'without'])
def test_reconnection_goes_on_counting(timed, said):
    connections = [Stream(2, timed=timed), Stream(3, timed=timed)]
    answers = iter([refuse, lambda: connections[1], refuse, refuse, refuse])
    reader = LiveReader(connections[0], lambda: next(answers)(), 'rtsp://door', attempts=3)
    found = list(reader.read(ALL))
    assert [frame.index for frame in found] == [0, 1, 2, 3, 4]
    times = [frame.time for frame in found]
    assert times[0] == 0 and sorted(set(times)) == times
    assert reader.reconnects == 1 and next(answers, None) is None
    assert {level for level, _ in said} == {logging.WARNING}
    texts = [text for _, text in said]
    assert texts[:2] == [f'rtsp://door: no frame after frame 2; reconnecting (attempt {n} of 3)' for n in (1, 2)]
    assert re.fullmatch(r'rtsp://door: connected again after \d\.\d seconds without frames', texts[2])
    assert texts[3:] == [*(f'rtsp://door: no frame after frame 5; reconnecting (attempt {n} of 3)' for n in (1, 2, 3)),
                         'rtsp://door: ends after frame 5: 3 attempts to reconnect failed']


def test_connections_without_frames_are_failed_attempts(said):
    made = []

    def connect():
        made.append(1)
        return Stream(0)

    assert len(list(LiveReader(Stream(2), connect, 'a', attempts=4).read(ALL))) == 2
    assert len(made) == 4


def test_end_stops_without_reconnecting():
    found = list(LiveReader(Stream(9), refuse, 'a', attempts=3).read(slice(2, 6, 3)))
    assert [frame.index for frame in found] == [2, 5]


def test_a_blocked_source_ends_soon_when_it_is_closed_or_stopped():
    closed, gate = threading.Event(), threading.Semaphore(1)
    source = LiveFrames(LiveReader(Stream(9, gate, closed=closed), refuse, 'camera 0', 3), ALL)
    taken = source.frames()
    next(taken)
    begin = time.monotonic()
    taken.close()
    assert time.monotonic() - begin < SOON
    gate.release()  # the blocked read returns at last, and the source is closed
    assert closed.wait(60)

    gate = threading.Semaphore(1)
    source = LiveFrames(LiveReader(Stream(9, gate), refuse, 'camera 0', 3), ALL)
    video = VideoSource('camera', source.frames(), 10, None, live=source)
    next(video)
    threading.Timer(0.1, video.stop).start()
    begin = time.monotonic()
    assert list(video) == [] and time.monotonic() - begin < SOON
    gate.release()


def test_a_generator_whose_source_blocks_closes_soon():
    gate = threading.Event()

    def arrays():
        yield np.zeros((4, 4, 3), np.uint8)
        gate.wait(60)

    items = in_background(open_video(arrays()), 3, patience=0.5)
    next(items)
    begin = time.monotonic()
    items.close()
    assert time.monotonic() - begin < SOON
    gate.set()


def test_errors_of_the_source_arrive(said):
    class Broken(Stream):
        def read(self, chosen):
            yield from super().read(chosen)
            raise OSError('broken')

    source = LiveFrames(LiveReader(Broken(1), refuse, 'a', 0), ALL, every_frame=True)
    taken = source.frames()
    next(taken)
    with pytest.raises(OSError, match='broken'):
        next(taken)


@pytest.fixture
def tcp_address(tmp_path):
    """Address that sends a film of 12 frames to each of two connections, then refuses more."""
    film = write_film(tmp_path / 'film.ts', rate=25).read_bytes()
    server = socket.create_server(('127.0.0.1', 0))

    def serve():
        with suppress(OSError):  # the test has ended
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(film)
        # close() alone keeps the port open, without an answer, while a forked process has the socket, too
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f'tcp://127.0.0.1:{server.getsockname()[1]}'
    server.close()
    thread.join(5)


def test_a_stream_that_drops_is_continued(tcp_address, said):
    source = open_video(tcp_address, every_frame=True, reconnect=2)
    found = list(source)
    assert [frame_of(frame.image) for frame in found] == [*range(12), *range(12)]
    assert [frame.index for frame in found] == list(range(24))
    assert np.diff([frame.time for frame in found]).min() > 0
    texts = [text for _, text in said]
    assert sum('connected again' in text for text in texts) == 1 and 'failed' in texts[-1]


def test_processing_keeps_up_with_a_udp_stream(said, monkeypatch):
    """Two seconds at 20 frames per second, processed at 5: frames are seen as they arrive."""
    monkeypatch.setattr(pyav_reader, 'STALL', 10)  # a busy machine may delay the sender
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(('127.0.0.1', 0))
        address = f'udp://127.0.0.1:{free.getsockname()[1]}'
    sent = []  # times

    def send():
        with av.open(f'{address}?pkt_size=1316', 'w', format='mpegts') as container:
            stream = container.add_stream('libx264', rate=20, options=dict(preset='ultrafast', tune='zerolatency',
                                                                           g='10'))
            stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
            stream.codec_context.time_base = Fraction(1, 20)
            for index in range(40):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 6 * index, np.uint8), format='bgr24')
                frame.pts, frame.time_base = index, Fraction(1, 20)
                sent.append(time.monotonic())
                container.mux(stream.encode(frame.reformat(format='yuv420p')))
                time.sleep(0.05)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    source = open_video(address, reconnect=0)
    found, number = [], 0
    for frame in source:
        time.sleep(0.2)
        found.append(frame)
        source.live.delivered(frame.index)
        number = round(frame.image.mean() / 6)
        if number >= 30:
            break
    late = time.monotonic() - sent[number]
    source.close()
    sender.join(60)
    statistics = source.live.statistics
    assert number >= 30 and 0 < sum(frame.dropped for frame in found) <= statistics.dropped
    assert late < 3  # where no frame is dropped, more than four
    assert statistics.percentile(99) < 3


def test_files_are_never_live_not_even_at_an_address(tmp_path):
    path = write_film(tmp_path / 'a.mp4')
    for video in (path, f'file://{path}', [np.zeros((4, 4, 3), np.uint8)]):
        source = open_video(video, reconnect=3)
        assert source.live is None
        source.close()


def test_wrong_number_of_attempts():
    with pytest.raises(UserError, match='--reconnect -1: must not be negative'):
        open_video('udp://127.0.0.1:9', reconnect=-1)


def test_video_demo_reports_dropped_frames_and_latencies(tcp_address, toy_config, tmp_path, capsys, said):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'tiny.pth')
    assert video_demo.main([tcp_address, str(toy_config), str(tmp_path / 'tiny.pth'), '--out', str(tmp_path / 'out'),
                            '--outputs', 'json', '--device', 'cpu', '--reconnect', '2']) == 0
    file, = (tmp_path / 'out').glob('*.jsonl')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    found = re.search(r', (\d+) of 24 frames dropped, latency p50 \d+ ms, p99 \d+ ms\n', capsys.readouterr().out)
    assert int(found[1]) == 24 - len(lines) == sum(line['dropped'] for line in lines)
    assert lines[-1]['source_frame'] == 23 and all('time' in line for line in lines)
