"""Data sets of videos with tracked masks: ``YVISDataset`` (YouTube-VIS 2019, 2021, 2022) and ``OVISDataset``.

Built by mmengine's runner from a config. An item is a clip: in training a key frame and a reference frame, or
consecutive frames; in testing consecutive frames of one video. The pipeline receives a dict with these keys:

``frames``: list of dicts with ``img_path``, ``video_id`` (of the annotation file), ``frame_id`` (0-based),
``video_length``, ``height`` and ``width`` (of the annotation file), and ``objects``
(:class:`~mmdet.datasets.packed_annotations.FrameObjects`);
``rng``: the random generator of the item, used by all transforms;
``on_bad_frame``: None, or a function that is called with the error of an unreadable frame, which is then replaced by a
black frame;
``draw_clip``: in training, a function that takes the generator and returns the ``frames`` of a random other clip, as
many as this one has, for transforms that mix clips; None in testing.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmdet.arguments import checked_count, checked_number, checked_range
from mmdet.datasets.layout import explain_missing, find_annotations, find_images
from mmdet.datasets.packed_annotations import VideoAnnotations, read_youtube_vis
from mmdet.datasets.transforms.frame_loading import BadFrameError
from mmdet.errors import UserError, counted
from mmdet.registry import DATASETS, TRANSFORMS

# so many workers can count bad frames without a race: each has a counter of its own
COUNTERS = 256
# draws of an item of another video; in a set of two videos, one item in 256 is combined with its own
DRAWS = 8


@DATASETS.register_module()
class YVISDataset(BaseDataset):
    """Data set in YouTube-VIS JSON format.

    ``get_data_info(i)`` returns a dict with ``video`` (index in the file), ``frame`` (first frame of the clip),
    ``length`` (number of frames) and ``wide`` (whether the width exceeds the height).

    In training, every frame with at least one object is an item. It is the key frame, the first frame of the clip. The
    second is the reference frame, drawn uniformly from the other frames of the video with an object that are at most
    ``ref_range`` frames away, before or after it; if there is none, from all others; if there is none, the key frame is
    repeated. With ``train_clip_len``, every video with an object is an item: a clip of that many consecutive frames
    from a random start; a shorter video contributes all its frames, followed by random ones of them.

    In testing, the items are the consecutive clips of the videos in the order of the file; every frame belongs to
    exactly one clip.

    Args:
        ann_file: annotation file, absolute or relative to ``data_root``.
        data_root: folder of the data set; the layout of the archives is found, too (:mod:`mmdet.datasets.layout`).
        data_prefix: ``img_path``: folder that contains the folders of the videos.
        pipeline: transforms, as configs or callables.
        test_mode: return the testing items instead of the training items.
        clip_len: maximum number of frames of a testing item; a clip never contains frames of two videos.
        train_clip_len: number of frames of a training item; None: pairs of key and reference frame.
        context: number of additional frames before and after a testing clip, as far as the video has them, for models
            with lookahead. Their samples have ``is_context=True`` and get no results: they belong to other clips.
        ref_range: largest distance in frames between key and reference frame, or the smallest and the largest.
        clip_interval: smallest and largest step in frames between neighbours of a training clip; drawn uniformly once
            per clip, from the steps with which the clip fits into its video.
        reverse_prob: probability that a training clip is in reverse order of time. Pairs need no reversal: their
            reference frame is before the key frame as often as after it.
        num_classes: number of classes of the model, checked against the file; None: not checked.
        metainfo: ``classes``: names of the file's categories to use, in the order of the labels; objects of other
            categories are left out, frames are not. Without it, all categories of the file. Other keys are kept.
        on_bad_frame: 'error', or 'skip': warn and count; training uses another item, testing a black frame
            (its sample has ``bad_frame=True``), so that the frame numbers of the tracks stay correct.
        max_refetch: number of unreadable training items in a row, after the first, that raises an error.
        indices, lazy_init: see mmengine's BaseDataset.

    Raises:
        UserError: a file is missing or is not as expected; the message names the file and the remedy.
    """

    METAINFO = {'dataset_type': 'YouTube-VIS'}

    def __init__(self,
                 ann_file: str,
                 data_root: str = '',
                 data_prefix: Mapping[str, str] | None = None,
                 pipeline: Sequence[dict | Callable] = (),
                 test_mode: bool = False,
                 clip_len: int = 1,
                 train_clip_len: int | None = None,
                 context: int = 0,
                 ref_range: int | Sequence[int] = 5,
                 clip_interval: Sequence[int] = (1, 1),
                 reverse_prob: float = 0.,
                 num_classes: int | None = None,
                 metainfo: Mapping[str, Any] | None = None,
                 on_bad_frame: str = 'error',
                 max_refetch: int = 100,
                 indices: int | Sequence[int] | None = None,
                 lazy_init: bool = False) -> None:
        if on_bad_frame not in ('error', 'skip'):
            raise UserError(f"on_bad_frame must be 'error' or 'skip', not {on_bad_frame!r}")
        self.clip_len = checked_count('clip_len', clip_len, 1)
        self.train_clip_len = None if train_clip_len is None else checked_count('train_clip_len', train_clip_len, 1)
        self.context = checked_count('context', context, 0)
        self.ref_range = _frame_range('ref_range', (1, ref_range) if isinstance(ref_range, int) else ref_range, 0)
        self.clip_interval = _frame_range('clip_interval', clip_interval, 1)
        self.reverse_prob = checked_number('reverse_prob', reverse_prob, 0, 1)
        if train_clip_len is None and (reverse_prob or self.clip_interval != (1, 1)):
            raise UserError('reverse_prob and clip_interval are for clips; set train_clip_len, or for pairs of key and '
                            'reference frame ref_range=(LEAST, MOST)')
        self.num_classes = num_classes
        self.on_bad_frame = on_bad_frame
        self.annotations: VideoAnnotations
        # in shared memory, one counter per worker
        self._bad_frames = torch.zeros(COUNTERS, dtype=torch.int64).share_memory_()
        super().__init__(ann_file=ann_file, metainfo=metainfo, data_root=data_root,
                         data_prefix={'img_path': ''} if data_prefix is None else dict(data_prefix),
                         pipeline=[TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline],
                         test_mode=test_mode, max_refetch=checked_count('max_refetch', max_refetch, 0),
                         indices=indices, lazy_init=lazy_init)

    @property
    def cat_ids(self) -> tuple[int, ...]:
        """Category id of each label, as in the annotation file."""
        return tuple(self.metainfo['cat_ids'])

    @property
    def num_bad_frames(self) -> int:
        """Number of unreadable frames so far, in all worker processes."""
        return int(self._bad_frames.sum())

    def __getitem__(self, index: int) -> dict:
        """Return an item after the pipeline; a :class:`~mmdet.datasets.samplers.SeededIndex` seeds its generator."""
        self.full_init()
        rng = np.random.default_rng(getattr(index, 'seed', np.random.randint(2 ** 31)))
        shared = {name: getattr(index, f'{name}_seed', None) for name in ('step', 'place')}
        for _ in range(self.max_refetch + 1):
            try:
                generators = {f'{name}_rng': rng if seed is None else np.random.default_rng(seed)
                              for name, seed in shared.items()}
                return self.pipeline(self._clip(index, rng) | generators)
            except BadFrameError as error:
                if self.on_bad_frame == 'error' or self.test_mode:
                    raise UserError(str(error)) from None
                self._count_bad_frame(error)
                index = int(rng.integers(len(self)))
        raise UserError(f'{self.max_refetch + 1} items in a row have unreadable frames; '
                        f'check {self.data_prefix["img_path"]}')

    def read_annotations(self) -> VideoAnnotations:
        """Read ``ann_file``; data sets of other formats override this method."""
        return read_youtube_vis(self.ann_file, need_masks=not self.test_mode)

    def load_data_list(self) -> list[dict]:
        """Read the file, check it against the config and the images, and list the items; called once by mmengine."""
        self.annotations = self.read_annotations()
        self._check_categories()
        self._check_images()
        items = []
        for video in range(len(self.annotations.video_ids)):
            height, width = self.annotations.sizes[video].tolist()
            if self.test_mode:
                frames = range(0, self.annotations.video_length(video), self.clip_len)
            else:
                frames = self.annotations.annotated_frames(video).tolist()
                if self.train_clip_len is not None:
                    frames = frames[:1]  # one item per video; the start of the clip is drawn later
            items += [{'video': video, 'frame': frame, 'length': self._clip_length(video, frame),
                       'wide': width > height} for frame in frames]
        if not items:
            raise UserError(f'{self.ann_file} has no frame with an object to learn from; use the training annotations')
        return items

    def _clip_length(self, video: int, first: int) -> int:
        if self.test_mode:
            return min(self.clip_len, self.annotations.video_length(video) - first)
        return self.train_clip_len or 2

    def _check_categories(self) -> None:
        found = self.annotations.classes
        chosen = self._metainfo.get('classes')
        if chosen is not None and tuple(chosen) != found:
            unknown = [str(name) for name in chosen if name not in found]
            if unknown:
                raise UserError(f'{self.ann_file} has the categories {", ".join(found)}, but metainfo.classes names '
                                f'{", ".join(unknown)}; choose among them, or use the matching file')
            if not chosen or len(set(chosen)) < len(chosen):
                raise UserError(f'metainfo.classes={list(chosen)}: name each category once, at least one')
            self.annotations = self.annotations.of_classes(chosen)
            found = self.annotations.classes
        if self.num_classes is not None and self.num_classes != len(found):
            source = self.ann_file if chosen is None else 'metainfo.classes'
            raise UserError(f'{source} has {counted(len(found), "category")}, the model '
                            f'{counted(self.num_classes, "class")}; set num_classes of the model to match or use the '
                            'matching annotations')
        self._metainfo.update(classes=found, cat_ids=self.annotations.cat_ids)

    def _check_images(self) -> None:
        """Check that the first frame of every video exists, to find incompletely unpacked data sets before training.

        With ``on_bad_frame='skip'``, one image of the whole data set is enough.
        """
        folder, videos = Path(self.data_prefix['img_path']), range(len(self.annotations.video_ids))
        first = [self.annotations.file_name(video, 0) for video in videos]
        missing = next((name for name in first if not (folder / name).is_file()), None)
        if missing is None:
            return
        if self.on_bad_frame == 'error':
            raise UserError(f'{folder / missing} does not exist, but {self.ann_file} lists it: '
                            f"{explain_missing(folder, missing)}, or set on_bad_frame='skip'")
        if not any(self._img_path(video, frame).is_file() for video in videos
                   for frame in range(self.annotations.video_length(video))):
            raise UserError(f'none of the images that {self.ann_file} lists exists, such as {folder / missing}: '
                            f'{explain_missing(folder, missing)}')

    ann_file: str
    data_prefix: dict

    def _join_prefix(self) -> None:
        self.ann_file = str(find_annotations(self.data_root, self.ann_file))
        self.data_prefix = {'img_path': str(find_images(self.data_root, self.data_prefix.get('img_path', '')))}

    def _img_path(self, video: int, frame: int) -> Path:
        return Path(self.data_prefix['img_path'], self.annotations.file_name(video, frame))

    def _clip(self, index: int, rng: np.random.Generator) -> dict:
        item = self.get_data_info(index)
        video, first = item['video'], item['frame']
        if self.test_mode:
            end = first + item['length']
            frames = [self._frame(video, frame) | {'is_context': not first <= frame < end}
                      for frame in range(max(first - self.context, 0),
                                         min(end + self.context, self.annotations.video_length(video)))]
        else:
            frames = [self._frame(video, frame) for frame in self._training_frames(video, first, rng)]
        skip = self.test_mode and self.on_bad_frame == 'skip'
        return {'frames': frames, 'rng': rng, 'on_bad_frame': self._count_bad_frame if skip else None,
                'draw_clip': None if self.test_mode else partial(self._draw_clip, video)}

    def _draw_clip(self, video: int, rng: np.random.Generator) -> list[dict]:
        """Draw the frames of a clip of another video; of the same one only if several draws in a row return it."""
        for _ in range(DRAWS):
            item = self.get_data_info(int(rng.integers(len(self))))
            if item['video'] != video:
                break
        return [self._frame(item['video'], frame) for frame in self._training_frames(item['video'], item['frame'], rng)]

    def _frame(self, video: int, frame: int) -> dict:
        height, width = self.annotations.sizes[video].tolist()
        return {'img_path': str(self._img_path(video, frame)), 'video_id': int(self.annotations.video_ids[video]),
                'frame_id': frame, 'video_length': self.annotations.video_length(video), 'height': height,
                'width': width, 'objects': self.annotations.objects(video, frame)}

    def _training_frames(self, video: int, first: int, rng: np.random.Generator) -> list[int]:
        if self.train_clip_len is not None:
            frames = clip_frames(self.annotations.video_length(video), self.train_clip_len, rng, self.clip_interval)
            return frames[::-1] if self.reverse_prob and rng.random() < self.reverse_prob else frames
        return [first, self._reference(video, first, rng)]

    def _reference(self, video: int, key: int, rng: np.random.Generator) -> int:
        others = self.annotations.annotated_frames(video)
        others = others[others != key]
        distances = np.abs(others - key)
        near = others[(distances >= self.ref_range[0]) & (distances <= self.ref_range[1])]
        if len(near):
            others = near
        return int(rng.choice(others)) if len(others) else key

    def _count_bad_frame(self, error: BadFrameError) -> None:
        worker = get_worker_info()
        self._bad_frames[(0 if worker is None else worker.id + 1) % COUNTERS] += 1
        print_log(f'Skipped a frame: {error}', logger='current', level=logging.WARNING)


def clip_frames(length: int, clip_len: int, rng: np.random.Generator, interval: tuple[int, int] = (1, 1)) -> list[int]:
    """Return frames of a video at a fixed step from a random start; of a short video, all and then random ones of them.

    Args:
        length: number of frames of the video.
        clip_len: number of frames that are returned.
        rng: random generator.
        interval: smallest and largest step, drawn uniformly from those with which the clip fits into the video; where
            even the smallest is too long for it, the largest step that fits.
    """
    if length < clip_len:
        return [*range(length), *rng.integers(length, size=clip_len - length).tolist()]
    least, most = (min(step, (length - 1) // max(clip_len - 1, 1)) for step in interval)
    step = int(rng.integers(least, most + 1)) if most > least else max(most, 1)
    start = int(rng.integers(length - (clip_len - 1) * step))
    return list(range(start, start + (clip_len - 1) * step + 1, step))


def _frame_range(name: str, value: Any, low: int) -> tuple[int, int]:
    """Return the bounds of a range of distances in frames; raise UserError unless they are two integers."""
    least, most = checked_range(name, value, low) if value != (1, 0) else value  # ref_range=0: no frame is near
    if not isinstance(least, int) or not isinstance(most, int):
        raise UserError(f'{name} counts frames: it takes integers, not {value!r}')
    return least, most


@DATASETS.register_module()
class OVISDataset(YVISDataset):
    """OVIS: the format of YouTube-VIS, with 25 classes and with occlusion levels, which only the evaluation reads."""

    METAINFO = {'dataset_type': 'OVIS'}
