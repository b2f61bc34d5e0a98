"""The server: three requests at the same time have the ids that each has alone; faults are one line of JSON."""
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from mmdet.apis import VideoInferencer, init_model
from mmdet.apis.server import TrackingServer
from mmdet.errors import UserError
from mmdet.visualization import Mp4Writer

FRAMES = 3


@pytest.fixture(scope='module')
def inferencer(toy_config):
    torch.manual_seed(0)
    model = init_model(toy_config, device='cpu')
    torch.nn.init.constant_(model.bbox_head.fcos_cls.bias, -1.0)
    return VideoInferencer(model, max_size=96)


@pytest.fixture(scope='module')
def server(inferencer):
    with TrackingServer(('127.0.0.1', 0), inferencer, thresh=0.0, max_streams=3, max_bytes=10 ** 6) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    """Three video files."""
    folder = tmp_path_factory.mktemp('films')
    for seed in range(3):
        base, drift = np.random.default_rng(seed).integers(0, 200, (2, 9, 16, 3))
        with Mp4Writer(folder / f'{seed}.mp4', 10) as writer:
            for frame in range(FRAMES):
                image = np.clip(base + frame * 0.15 * (drift - base), 0, 255).astype(np.uint8)
                writer.write(image.repeat(8, 0).repeat(8, 1))
    return [folder / f'{seed}.mp4' for seed in range(3)]


def request(server, method, path, body=None, headers=None):
    """Status and the lines of the response."""
    connection = http.client.HTTPConnection('127.0.0.1', server.server_port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, [json.loads(line) for line in response.read().splitlines()]
    finally:
        connection.close()


def ids(lines):
    return [[found['id'] for found in line['objects']] for line in lines]


@pytest.fixture(scope='module')
def alone(inferencer, films):
    return [[frame.pred_track_instances.instances_id.tolist() for clip in inferencer(film, thresh=0.0)
             for frame in clip] for film in films]


def test_three_videos_at_the_same_time(server, films, alone):
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda film: request(server, 'POST', '/videos', film.read_bytes()), films))
    assert [status for status, _ in answers] == [200] * 3
    assert [ids(lines) for _, lines in answers] == alone
    assert [line['frame_id'] for line in answers[0][1]] == list(range(FRAMES))
    assert answers[0][1][0]['objects'][0].keys() >= {'id', 'category_id', 'score', 'bbox', 'segmentation'}


def images_of(film):
    capture = cv2.VideoCapture(str(film))
    while (read := capture.read())[0]:
        yield cv2.imencode('.png', read[1])[1].tobytes()


def test_three_streams_of_frames_at_the_same_time(server, inferencer, films):
    def post(film):
        answers = [request(server, 'POST', f'/streams/{film.stem}', image) for image in images_of(film)]
        assert [status for status, _ in answers] == [200] * FRAMES
        return ids([line for _, lines in answers for line in lines])

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(post, films))
    assert request(server, 'GET', '/')[1][0]['streams'] == 3
    for film, frames in zip(films, found):
        stream, expected = inferencer.new_stream(), []
        for image in images_of(film):
            frame, = inferencer.track([cv2.imdecode(np.frombuffer(image, np.uint8), 1)], [stream], thresh=0.0)
            expected.append(frame.pred_track_instances.instances_id.tolist())
        assert frames == expected
        assert request(server, 'DELETE', f'/streams/{film.stem}') == (200, [{'dropped': film.stem}])
    assert request(server, 'GET', '/')[1][0]['streams'] == 0


def test_the_least_recently_used_stream_is_dropped(server, films):
    image = next(images_of(films[0]))
    for name, frame_id in (('a', 0), ('b', 0), ('c', 0), ('a', 1), ('d', 0), ('b', 0), ('a', 2)):
        assert request(server, 'POST', f'/streams/{name}', image)[1][0]['frame_id'] == frame_id
    assert request(server, 'GET', '/')[1][0]['streams'] == 3


def test_thresholds(server, films):
    _, lines = request(server, 'POST', '/videos?thresh=1', films[0].read_bytes())
    assert ids(lines) == [[]] * FRAMES


@pytest.mark.parametrize(('method', 'path', 'body', 'headers', 'status', 'words'), [
    ('POST', '/videos', b'no film', None, 400, 'the video: '),
    ('POST', '/streams/x', b'no image', None, 400, 'not an image that OpenCV can read'),
    ('POST', '/streams/x', b'', None, 400, 'not an image'),
    ('POST', '/videos?thresh=2', b'', None, 400, 'thresh=2: give a number from 0 to 1'),
    ('POST', '/videos?thresh=high', b'', None, 400, 'thresh=high'),
    ('POST', '/videos', b'', {'Content-Length': str(10 ** 7)}, 413, 'at most 1000000'),
    ('POST', '/videos', None, {'Transfer-Encoding': 'chunked'}, 411, 'no Content-Length'),
    ('POST', '/', b'', None, 404, '/videos and /streams/NAME'),
    ('POST', '/streams/', b'', None, 404, '/videos and /streams/NAME'),
    ('GET', '/videos', None, None, 404, '/videos'),
    ('DELETE', '/streams/nobody', None, None, 404, 'nobody: no such stream')])
def test_faults_are_one_line(server, method, path, body, headers, status, words):
    answer = request(server, method, path, body, headers)
    assert answer[0] == status
    line, = answer[1]
    assert words in line['error'] and '/tmp' not in line['error']


def test_a_port_that_is_taken(server, inferencer):
    with pytest.raises(UserError, match=f'--port {server.server_port}: cannot listen there'):
        TrackingServer(('127.0.0.1', server.server_port), inferencer)


def test_the_command(toy_config, films, tmp_path, capsys, monkeypatch):
    """The script, up to its first request."""
    from tools import serve
    checkpoint = tmp_path / 'tiny.pth'
    torch.save(dict(state_dict=init_model(toy_config, device='cpu').state_dict()), checkpoint)
    answers = []

    def serve_one(server):
        client = threading.Thread(target=lambda: answers.append(request(server, 'GET', '/')))
        client.start()
        server.handle_request()
        client.join()

    monkeypatch.setattr(TrackingServer, 'serve_forever', serve_one)
    assert serve.main([str(toy_config), str(checkpoint), '--port', '0', '--device', 'cpu']) == 0
    assert 'listening on http://127.0.0.1:' in capsys.readouterr().out
    assert answers == [(200, [{'classes': [], 'streams': 0}])]
