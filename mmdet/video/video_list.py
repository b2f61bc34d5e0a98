"""List the videos of one command, name their output files, and check the output before any work.

Called by tools/video_demo.py and, for the checks, by :class:`mmdet.apis.VideoInferencer`.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mmdet.errors import UserError
from mmdet.paths import IMAGE_ENDINGS, natural_key, output_name, shown
from mmdet.video.live import RECONNECT
from mmdet.video.source import LocalVideo, VideoSource, find_videos, is_camera, open_video

MOVIES = ('mp4', 'gif')  # outputs that consist of one file ``<name>.<output>``


class VideoEntry:
    """A video of the list that is not open yet.

    Attributes:
        name: name for the output files, unique in the list.
        path: path of the file, or of the folder of the images; None for cameras and addresses.
    """

    def __init__(self, video: LocalVideo | str) -> None:
        self._video = video
        self.path = None if isinstance(video, str) else video.path
        if isinstance(video, str):
            name = f'camera {video}' if is_camera(video) else video.split('://', 1)[-1]
        else:
            name = video.name
        self.name = output_name(name, 'video')

    def open(self, start: int, end: int | None, stride: int, on_bad_frame: str, every_frame: bool = False,
             reconnect: int = RECONNECT) -> VideoSource:
        """Open the video; for arguments and errors see :func:`mmdet.video.source.open_video`."""
        if isinstance(self._video, str):
            source = open_video(self._video, start, end, stride, every_frame=every_frame, reconnect=reconnect)
        else:
            source = self._video.open(slice(start, end, stride), on_bad_frame)
        source.name = self.name
        return source


def list_videos(texts: Iterable[str]) -> list[VideoEntry]:
    """List the videos of paths, globs, addresses and camera numbers, see :func:`find_videos`.

    Image files of one folder, such as those of ``frames/*.jpg`` expanded by a shell, are one video. Videos with equal
    names are distinguished by the name of their folder as a prefix, or a number as a suffix.

    Raises:
        UserError: one of them does not exist or has no video.
    """
    videos: list[LocalVideo | str] = []
    folders: dict[Path, LocalVideo] = {}
    for text in texts:
        path = Path(text).expanduser()
        if is_camera(text) or '://' in text:
            videos.append(text)
        elif path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            if path.parent in folders:
                _add_image(folders[path.parent], path)
            else:
                folders[path.parent] = find_videos(text)[0]
                videos.append(folders[path.parent])
        else:
            videos += find_videos(text)
    entries = [VideoEntry(video) for video in videos]
    _make_names_differ(entries)
    return entries


def _add_image(video: LocalVideo, path: Path) -> None:
    if path not in video.images:
        video.images = sorted([*video.images, path], key=natural_key)
        video.name, video.path, video.text = path.parent.resolve().name, path.parent, str(path.parent)


def _make_names_differ(entries: Sequence[VideoEntry]) -> None:
    """Make names unique, ignoring case, since file systems may not distinguish upper and lower case."""
    counts = Counter(entry.name.casefold() for entry in entries)
    for entry in entries:
        if counts[entry.name.casefold()] > 1 and entry.path is not None:
            entry.name = output_name(f'{entry.path.resolve().parent.name}_{entry.name}', entry.name)
    taken: set[str] = set()
    for entry in entries:
        name, number = entry.name, 1
        while name.casefold() in taken:
            number += 1
            name = f'{entry.name}_{number}'
        entry.name = name
        taken.add(name.casefold())


def check_outputs(names: Collection[str], sources: Iterable[Path | None], out: Path, outputs: Collection[str]) -> None:
    """Check that no input video is overwritten and no PNG files are mixed with those of an earlier run.

    Args:
        names: names of the videos.
        sources: paths of their files and folders; None for a video without.
        out: output folder.
        outputs: see :class:`mmdet.apis.VideoInferencer`.

    Raises:
        UserError: an input would be overwritten, or PNG files exist already.
    """
    folders = [kind for kind in ('png', 'masks') if kind in outputs]
    read = {path.resolve() for path in sources if path is not None}
    for name in names:
        written = [out / f'{name}.{kind}' for kind in outputs if kind in MOVIES]
        pictures = [out / name if kind == 'png' else out / kind / name for kind in folders]
        written += pictures
        for path in written:
            if path.resolve() in read:
                raise UserError(f'--out {shown(out)}: {shown(path)} itself, a video that is read, would be '
                                'overwritten; choose another folder')
        for folder in pictures:
            if old := len(list(folder.glob('*.png'))):
                raise UserError(f'--out {shown(out)}: {shown(folder)} holds {old} PNG files already, perhaps of an '
                                'earlier run, which would stay among the new ones; remove them or choose another one')
