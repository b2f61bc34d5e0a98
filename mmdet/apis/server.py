"""Tracking over HTTP, several videos at the same time. Called by tools/serve.py; interface: docs/serving.md.

Each request runs in its own thread. Each video has its own stream state, so that requests do not change each other's
ids; the network processes one thread at a time.
"""
from __future__ import annotations

import json
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import numpy as np

from mmdet.apis.video_inferencer import VideoInferencer
from mmdet.errors import UserError
from mmdet.structures import DetDataSample, StreamState
from mmdet.video.result_writer import frame_objects

_CHUNK = 2 ** 20  # bytes read at once


@dataclass
class _Stream:
    """State of a stream whose frames are posted one by one, and the lock that keeps them in order."""

    state: StreamState
    lock: threading.Lock = field(default_factory=threading.Lock)


class TrackingServer(ThreadingHTTPServer):
    """HTTP server for ``POST /videos``, ``POST /streams/NAME``, ``DELETE /streams/NAME`` and ``GET /``.

    Args:
        address: host and port; 0 selects a free port, see ``server_port``.
        inferencer: shared by all requests.
        thresh: score in [0, 1]; only objects with a higher score are sent, unless a request has ``?thresh=``.
        max_streams: maximum number of streams of posted frames; the least recently used is dropped for a new one.
        max_bytes: maximum size of a request's body.

    Raises:
        UserError: the server cannot listen at the address.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], inferencer: VideoInferencer, thresh: float = 0.5,
                 max_streams: int = 64, max_bytes: int = 2 ** 30) -> None:
        try:
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f'--host {address[0]} --port {address[1]}: cannot listen there ({error}); choose another '
                            'port') from error
        self.inferencer, self.thresh = inferencer, thresh
        self.max_streams, self.max_bytes = max_streams, max_bytes
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._streams_lock = threading.Lock()

    def num_streams(self) -> int:
        """Return the number of streams of posted frames."""
        return len(self._streams)

    @contextmanager
    def stream(self, name: str) -> Iterator[StreamState]:
        """Yield the state of a stream, which is created if it does not exist, for exclusive use by this thread."""
        with self._streams_lock:
            stream = self._streams.setdefault(name, _Stream(self.inferencer.new_stream()))
            self._streams.move_to_end(name)
            while len(self._streams) > self.max_streams:
                self._streams.popitem(last=False)
        with stream.lock:
            yield stream.state

    def drop(self, name: str) -> bool:
        """Drop a stream; return whether there was one."""
        with self._streams_lock:
            return self._streams.pop(name, None) is not None


class _Failure(Exception):
    """An error response: HTTP status and a message of one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: TrackingServer

    def do_GET(self) -> None:
        self._answer(self._describe)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, respond: Any) -> None:
        try:
            respond(urlsplit(self.path))
        except _Failure as failure:
            self._send({'error': str(failure)}, failure.status)
        except UserError as error:
            self._send({'error': str(error)}, HTTPStatus.BAD_REQUEST)
        except ConnectionError:
            self.close_connection = True  # the client has closed the connection

    def _describe(self, url: Any) -> None:
        if url.path != '/':
            raise _Failure(HTTPStatus.NOT_FOUND, f'{url.path}: there are /videos and /streams/NAME')
        self._send({'classes': list(self.server.inferencer.class_names or ()), 'streams': self.server.num_streams()})

    def _post(self, url: Any) -> None:
        thresh = self._thresh(url.query)
        if url.path == '/videos':
            self._track_video(thresh)
        else:
            self._track_frame(self._stream_name(url.path), thresh)

    def _delete(self, url: Any) -> None:
        name = self._stream_name(url.path)
        if not self.server.drop(name):
            raise _Failure(HTTPStatus.NOT_FOUND, f'{name}: no such stream')
        self._send({'dropped': name})

    def _track_video(self, thresh: float) -> None:
        """Body: a video file. Response: a JSON line for each frame, sent as soon as it is processed."""
        with tempfile.NamedTemporaryFile(prefix='video') as file:
            self._read_body(file.file)
            file.flush()
            begun = False
            try:
                with closing(self.server.inferencer(file.name, thresh=thresh)) as clips:  # type: ignore[type-var]
                    for clip in clips:
                        if not begun:
                            self._send_head('application/x-ndjson')
                            begun = True
                        for frame in clip:
                            self.wfile.write(_line(self._result(frame)))
            except UserError as error:
                message = str(error).replace(file.name, 'the video')
                if not begun:
                    raise UserError(message) from error
                self.wfile.write(_line({'error': message}))

    def _track_frame(self, name: str, thresh: float) -> None:
        """Body: an image file, the next frame of the stream. Response: its objects."""
        body = BytesIO()
        self._read_body(body)
        data = np.frombuffer(body.getvalue(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if image is None:
            raise UserError('the body is not an image that OpenCV can read; post a JPEG or PNG file')
        with self.server.stream(name) as state:
            frame, = self.server.inferencer.track([image], [state], thresh=thresh)
        self._send(self._result(frame))

    def _result(self, frame: DetDataSample) -> dict:
        inferencer = self.server.inferencer
        objects = frame_objects(frame.pred_track_instances, inferencer.category_ids, inferencer.class_names)
        return {'frame_id': frame.frame_id, 'objects': objects}

    def _stream_name(self, path: str) -> str:
        prefix, _, name = path.removeprefix('/').partition('/')
        if prefix != 'streams' or not name or '/' in name:
            raise _Failure(HTTPStatus.NOT_FOUND, f'{path}: there are /videos and /streams/NAME')
        return unquote(name)

    def _thresh(self, query: str) -> float:
        text = parse_qs(query).get('thresh', [str(self.server.thresh)])[-1]
        try:
            thresh = float(text)
        except ValueError:
            thresh = -1.
        if not 0 <= thresh <= 1:
            raise UserError(f'thresh={text}: give a number from 0 to 1')
        return thresh

    def _read_body(self, file: IO[bytes]) -> None:
        text = self.headers.get('Content-Length') or ''
        if not text.isdecimal():
            raise _Failure(HTTPStatus.LENGTH_REQUIRED, 'the request has no Content-Length')
        left = int(text)
        if left > self.server.max_bytes:
            raise _Failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                           f'the body has {left} bytes; at most {self.server.max_bytes} are taken')
        while left and (chunk := self.rfile.read(min(left, _CHUNK))):
            file.write(chunk)
            left -= len(chunk)
        if left:
            raise ConnectionError('the client closed the connection in the middle of the body')

    def _send(self, content: dict, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send_head('application/json', status)
        self.wfile.write(_line(content))

    def _send_head(self, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send status and headers. With HTTP/1.0, closing the connection ends the response."""
        self.send_response(status)
        self.send_header('Content-Type', content_type)
        self.end_headers()


def _line(content: dict) -> bytes:
    return json.dumps(content, separators=(',', ':')).encode() + b'\n'
