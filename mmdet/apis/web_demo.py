"""A page in the browser on which videos are annotated. Called by tools/web_demo.py; manual: docs/web_demo.md.

web_demo.js is its part in the browser. :class:`Models` and :func:`annotate` do the work. Only the interface,
:func:`build_page` and :func:`launch_page`, needs Gradio. Each request has its own iterator of :class:`VideoInferencer`
and therefore its own stream state.
"""
from __future__ import annotations

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mmdet.apis.cli import one_line
from mmdet.apis.video_inferencer import VideoInferencer
from mmdet.errors import UserError, counted, missing_package
from mmdet.video.source import open_untrusted
from mmdet.visualization import TrackVisualizer
from mmdet.visualization.timeline import Timeline

PREVIEW_SECONDS = 0.5  # minimum time between two pictures that are sent during processing
WAITING = 32  # maximum number of requests that wait; further ones are told to come back later
KEPT_SECONDS = 3600  # age at which uploaded videos and results are deleted
# Gradio sometimes shows the end of a stopped request as an error; errors are the text of the summary
STYLE = '#summary .error, #summary .clear-status { display: none }'
GRADIO = 'gradio==6.31.0'


class Models:
    """Models by name. Each is loaded at its first use, once, and shared by all requests.

    Args:
        sources: for each name, the arguments of ``build`` and the names of the model's classes, if they are known.
        build: function that loads a model.
    """

    def __init__(self, sources: Mapping[str, tuple[tuple, tuple[str, ...]]],
                 build: Callable[..., VideoInferencer]) -> None:
        self._sources, self._build = dict(sources), build
        self._locks = {name: threading.Lock() for name in sources}
        self._loaded: dict[str, VideoInferencer] = {}

    @property
    def names(self) -> list[str]:
        """The names, the preselected one first."""
        return list(self._sources)

    def load(self, name: str) -> VideoInferencer:
        """Return a model, which is loaded if this is its first use; raise UserError for an unknown name."""
        if name not in self._sources:
            raise UserError(f'{name!r} is not a model of this page; there are {", ".join(self._sources)}')
        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = self._build(*self._sources[name][0])
            return self._loaded[name]

    def class_names(self, name: str) -> list[str]:
        """Return the names of a model's classes without loading it; empty if only its checkpoint contains them."""
        if name in self._loaded:
            return list(self._loaded[name].class_names or ())
        return list(self._sources[name][1]) if name in self._sources else []


@dataclass
class Step:
    """State of a request: number of processed and of all frames, and a drawn frame (H, W, 3) uint8 RGB."""

    done: int
    total: int | None
    picture: np.ndarray


@dataclass
class Outcome:
    """Result of a request: files, timeline, and one or two sentences about it."""

    mp4: Path
    json: Path
    timeline: Markup
    summary: str


def annotate(inferencer: VideoInferencer, video: str, folder: Path, *, thresh: float = 0.5,
             classes: tuple[str, ...] = (), max_frames: int | None = None) -> Iterator[Step | Outcome]:
    """Find and track the objects of a video.

    Args:
        inferencer: may be in use by other threads.
        video: path of a file, which may be from someone else.
        folder: folder for the result files.
        thresh, classes: see :class:`VideoInferencer`.
        max_frames: the rest of a longer video is not processed.

    Yields:
        A :class:`Step` at most every half second, and at the end an :class:`Outcome`.

    Raises:
        UserError: the video cannot be read, or a class does not exist.
    """
    length, source = open_untrusted(video).expected, open_untrusted(video, end=max_frames)
    visualizer = TrackVisualizer(inferencer.class_names, score_thr=-1.0)
    timeline = Timeline(inferencer.class_names)
    done, shown = 0, 0.0
    clips: Any = inferencer(source, out=folder, thresh=thresh, classes=classes)
    with closing(clips):
        for clip in clips:
            for frame in clip:
                found = frame.pred_track_instances
                timeline.add(found.instances_id.tolist(), found.labels.tolist(), found.scores.tolist(),
                             frame.get('time'))
            done += len(clip)
            if time.monotonic() - shown >= PREVIEW_SECONDS:
                yield Step(done, source.expected, visualizer.draw(frame.ori_img.copy(), found)[..., ::-1])
                shown = time.monotonic()
    is_cut = done == max_frames and (length is None or length > done)
    cut = f'; processing ends after {counted(done, "frame")}' if is_cut else ''
    damage = f' The video is damaged: {"; ".join(source.faults)}.' if source.faults else ''
    yield Outcome(folder / f'{source.name}.mp4', folder / f'{source.name}.json', timeline.html(),
                  f'{counted(done, "frame")}, {counted(len(timeline), "track")} above {thresh:g}{cut}.{damage}')


def build_page(models: Models, *, thresh: float = 0.5, max_frames: int | None = None, jobs: int = 2) -> Any:
    """Build the page, a ``gradio.Blocks``; ``launch_page`` serves it.

    Args:
        models: models that the page offers.
        thresh: preselected threshold.
        max_frames: see :func:`annotate`.
        jobs: number of requests that are processed at the same time; others wait.

    Raises:
        UserError: Gradio is not installed.
    """
    gradio = import_gradio()

    def run(video: str, model: str, score: float, classes: list[str] | None,
            progress: Any = gradio.Progress()) -> Iterator[list]:  # noqa: B008 (how Gradio passes it)
        show = gradio.update
        # nothing of the previous video stays, neither during processing nor beside an error
        yield [show(value=None, visible=False), show(value=None, visible=True), '',
               *[show(value=None, interactive=False)] * 2, '']
        try:
            check_upload(video)
            progress(0, desc=f'Loading {model}')
            inferencer = models.load(model)
            with tempfile.TemporaryDirectory() as folder:
                for step in annotate(inferencer, video, Path(folder), thresh=score, classes=tuple(classes or ()),
                                     max_frames=max_frames):
                    if isinstance(step, Step):
                        progress((step.done, step.total), desc='Processing', unit='frames')
                        yield [show(value=step.picture, visible=True), show(visible=False), *[gradio.skip()] * 4]
                    else:
                        files = [show(value=str(path), interactive=True) for path in (step.mp4, step.json)]
                        yield [show(value=None, visible=False), show(value=str(step.mp4), visible=True),
                               str(step.timeline), *files, step.summary]
        except Exception as error:
            # as text that stays, instead of gradio.Error, which is shown for some seconds
            if isinstance(error, UserError):
                text = one_line(error).replace(f'{Path(video).parent}{os.sep}', '').removeprefix('--')
            else:
                text = f'the server failed ({type(error).__name__}); its log has the details'
                traceback.print_exc()
            yield [show(value=None, visible=False), *[gradio.skip()] * 4, f'**Error:** {text}']

    def show_stopped(text: str) -> list:
        if text:  # the end of the request, which the user stopped too late
            return [gradio.skip()] * 3
        return [gradio.update(value=None, visible=False), gradio.update(visible=True),
                'No video is being processed; press Start.']

    with gradio.Blocks(title='Video instance segmentation', analytics_enabled=False,
                       delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gradio.Markdown('# Find and track the objects of a video')
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(label='Video or webcam', sources=['upload', 'webcam'], include_audio=False,
                                     elem_id='video')
                # The file as it is: include_audio=False is to ask for no microphone, not to convert the video.
                video.preprocess = lambda payload: payload.path if payload else ''
                gradio.HTML('<p role="status"></p>', elem_id='camera')
                model = gradio.Dropdown(models.names, value=models.names[0], label='Model', elem_id='model')
                score = gradio.Slider(0, 1, value=thresh, step=0.01, label='Score threshold', elem_id='score')
                classes = gradio.Dropdown(models.class_names(models.names[0]), multiselect=True, label='Classes',
                                          info='Empty: all', allow_custom_value=True, elem_id='classes')
                with gradio.Row():
                    start = gradio.Button('Start', variant='primary', elem_id='start')
                    stop = gradio.Button('Stop', elem_id='stop')
            with gradio.Column():
                summary = gradio.Markdown(elem_id='summary', min_height=80)
                picture = gradio.Image(label='Current frame', visible=False, elem_id='picture', format='jpeg',
                                       buttons=['fullscreen'])
                result = gradio.Video(label='Annotated video', interactive=False, elem_id='result', buttons=[])
                with gradio.Row():
                    downloads = [gradio.DownloadButton(f'Download {kind.upper()}', interactive=False, elem_id=kind)
                                 for kind in ('mp4', 'json')]
        gradio.Markdown('### Timeline of the tracks')
        timeline = gradio.HTML(elem_id='timeline')
        event = start.click(run, [video, model, score, classes], [picture, result, timeline, *downloads, summary],
                            concurrency_limit=jobs, show_progress_on=summary, api_name='annotate')
        stop.click(None, cancels=[event]).then(show_stopped, summary, [picture, result, summary], queue=False,
                                               api_visibility='private')
        model.change(lambda name: gradio.update(choices=models.class_names(name), value=[]), model, classes,
                     api_visibility='private')
    return page.queue(max_size=WAITING)


def check_upload(video: str) -> None:
    """Check that an upload exists.

    Args:
        video: path of the file, as sent by the browser; empty: none was uploaded.

    Raises:
        UserError: there is no such file.
    """
    if not video:
        raise UserError('choose or record a video first, and wait until it is uploaded')
    if not os.path.isfile(video):  # Gradio also accepts the folder of all uploads, and paths that do not exist
        raise UserError(f'{Path(video).name}: does not exist on the server (uploads are deleted after '
                        f'{KEPT_SECONDS // 60} minutes); choose or record the video again')


class CancelledUploads:
    """ASGI middleware: report an upload that the browser breaks off as an error of its content.

    Gradio deletes the file of an upload with such an error. Otherwise, it keeps the file and prints a traceback.

    Args:
        app: the ASGI application that receives the requests.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Any) -> None:
        from starlette.formparsers import MultiPartException
        complete = scope['type'] != 'http' or not scope['path'].endswith('/upload')

        async def checked() -> Any:
            nonlocal complete
            message = await receive()
            if message['type'] == 'http.disconnect' and not complete:
                raise MultiPartException('the upload was cancelled')
            complete = complete or not message.get('more_body')
            return message

        await self.app(scope, checked, send)


def launch_page(page: Any, *, host: str = '127.0.0.1', port: int | None = None, max_upload: int = 500,
                wait: bool = True) -> str:
    """Serve the page. Nothing is loaded from the internet, neither by the server nor by the browser.

    Args:
        page: result of :func:`build_page`.
        host: address to listen on.
        port: port; None: a free one from 7860 on.
        max_upload: maximum size of a video in MB.
        wait: return only after Ctrl-C; else at once, and ``page.close()`` ends the server.

    Returns:
        The address of the page.

    Raises:
        UserError: the server cannot listen there.
    """
    gradio = import_gradio()
    script = Path(__file__).with_suffix('.js').read_text()
    from starlette.middleware import Middleware
    theme = gradio.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, max_file_size=f'{max_upload}mb', theme=theme,
            head=f'<script>{script}</script>', prevent_thread_lock=True, share=False, ssr_mode=False,
            css=STYLE, app_kwargs=dict(middleware=[Middleware(CancelledUploads)]), quiet=True, footer_links=[],
            enable_monitoring=False)
    except OSError as error:
        raise UserError(f'--host {host} --port {port}: cannot listen there ({error}); choose another port') from error
    if wait:
        print(f'listening on {address}; Ctrl-C ends', flush=True)
        page.block_thread()
    return address


def import_gradio() -> Any:
    """Import Gradio without its usage statistics; raise UserError if it cannot be imported."""
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    try:
        import gradio
    except ImportError as error:
        raise missing_package(error, 'the page', GRADIO) from error
    return gradio
