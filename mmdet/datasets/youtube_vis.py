"""Data sets of videos with tracked masks: ``YVISDataset`` (YouTube-VIS 2019, 2021, 2022) and ``OVISDataset``.

Built by mmengine's runner from a config. An item is a clip: in training a key frame and a reference frame, or some
consecutive frames, in testing consecutive frames of one video. What the pipeline gets:

``frames``: list of dicts ``img_path``, ``video_id`` (the file's own), ``frame_id`` (0-based), ``video_length``,
``height``, ``width`` (of the annotation file), ``objects`` (:class:`~mmdet.datasets.packed_annotations.FrameObjects`);
``rng``: the item's random generator, from which transforms draw; ``on_bad_frame``: None, or what to call with the error
of an unreadable frame before a blank one takes its place.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmdet.datasets.layout import explain_missing, find_annotations, find_images
from mmdet.datasets.packed_annotations import VideoAnnotations, read_youtube_vis
from mmdet.datasets.transforms.frame_loading import BadFrameError
from mmdet.errors import UserError
from mmdet.registry import DATASETS, TRANSFORMS

# workers that count bad frames without disturbing each other
COUNTERS = 256


@DATASETS.register_module()
class YVISDataset(BaseDataset):
    """Reader of YouTube-VIS JSON.

    ``get_data_info(i)``: ``video`` (position in the file), ``frame`` (the clip's first), ``length`` (frames), ``wide``.

    Training items are the frames with at least one object: ``len`` is their number, the item's first frame is the key
    frame, the second the reference: uniform over the video's other such frames at most ``ref_range`` away, else over
    all others, else the key frame itself. With ``train_clip_len`` the training items are the videos with an object,
    each a clip of that many consecutive frames from a random start; a shorter video gives all its frames and then
    random ones of them again. Testing items are the clips of the videos in the file's order; every frame belongs to
    exactly one.

    Args:
        ann_file: annotation file, absolute or below ``data_root``.
        data_root: folder of the set; the archives' own layout is found too (:mod:`mmdet.datasets.layout`).
        data_prefix: ``img_path``: folder of the videos' folders.
        pipeline: transforms, as configs or callables.
        test_mode: clips in order instead of random pairs.
        clip_len: frames of a testing item, at most; a clip never crosses videos.
        train_clip_len: frames of a training item; None: pairs of key and reference frame.
        context: further frames a testing item has on either side, as far as the video goes, for models that look ahead:
            their samples have ``is_context=True`` and get no results (they belong to other clips).
        ref_range: largest distance in frames between key and reference frame.
        num_classes: the model's classes, checked against the file's; None: not checked.
        metainfo: ``classes``: names expected in the file, checked against it; other keys are kept.
        on_bad_frame: 'error', or 'skip': warn and count; training takes another item, testing a black frame
            (its sample has ``bad_frame=True``), so that tracks keep their places in time.
        max_refetch: items to try in a row before a training set counts as unreadable.
        indices, lazy_init: see mmengine's BaseDataset.

    Raises:
        UserError: files missing or not as expected; names the file and the remedy.
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
                 ref_range: int = 5,
                 num_classes: int | None = None,
                 metainfo: Mapping[str, Any] | None = None,
                 on_bad_frame: str = 'error',
                 max_refetch: int = 100,
                 indices: int | Sequence[int] | None = None,
                 lazy_init: bool = False) -> None:
        if on_bad_frame not in ('error', 'skip'):
            raise UserError(f"on_bad_frame must be 'error' or 'skip', not {on_bad_frame!r}")
        if clip_len < 1 or ref_range < 0 or context < 0:
            raise UserError('clip_len must be at least 1, context and ref_range at least 0, not '
                            f'{clip_len}, {context} and {ref_range}')
        if train_clip_len is not None and train_clip_len < 1:
            raise UserError(f'train_clip_len must be at least 1, or None for key/reference pairs, not {train_clip_len}')
        self.clip_len = clip_len
        self.train_clip_len = train_clip_len
        self.context = context
        self.ref_range = ref_range
        self.num_classes = num_classes
        self.on_bad_frame = on_bad_frame
        self.annotations: VideoAnnotations
        # shared with the workers, one place each
        self._bad_frames = torch.zeros(COUNTERS, dtype=torch.int64).share_memory_()
        super().__init__(ann_file=ann_file, metainfo=metainfo, data_root=data_root,
                         data_prefix={'img_path': ''} if data_prefix is None else dict(data_prefix),
                         pipeline=[TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline],
                         test_mode=test_mode, max_refetch=max_refetch, indices=indices, lazy_init=lazy_init)

    @property
    def cat_ids(self) -> tuple[int, ...]:
        """The file's category id of each label."""
        return tuple(self.metainfo['cat_ids'])

    @property
    def num_bad_frames(self) -> int:
        """Unreadable frames met so far, in all worker processes."""
        return int(self._bad_frames.sum())

    def __getitem__(self, index: int) -> dict:
        """The item after the pipeline; a :class:`~mmdet.datasets.samplers.SeededIndex` fixes its random numbers."""
        self.full_init()
        rng = np.random.default_rng(getattr(index, 'seed', np.random.randint(2 ** 31)))
        for _ in range(self.max_refetch + 1):
            try:
                return self.pipeline(self._clip(index, rng))
            except BadFrameError as error:
                if self.on_bad_frame == 'error' or self.test_mode:
                    raise UserError(str(error)) from None
                self._count_bad_frame(error)
                index = int(rng.integers(len(self)))
        raise UserError(f'{self.max_refetch + 1} items in a row have unreadable frames; '
                        f'check {self.data_prefix["img_path"]}')

    def read_annotations(self) -> VideoAnnotations:
        """Read ``ann_file``; data sets of other formats have their own."""
        return read_youtube_vis(self.ann_file)

    def load_data_list(self) -> list[dict]:
        """Called once by mmengine: reads the file, checks it against the config and the disk, lists the items."""
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
                    frames = frames[:1]  # one item a video; where the clip begins is drawn later
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
        expected = self._metainfo.get('classes')
        if expected is not None and tuple(expected) != found:
            raise UserError(f'{self.ann_file} has the categories {", ".join(found)}, but metainfo.classes names '
                            f'{", ".join(map(str, expected))}; drop metainfo.classes or use the matching file')
        if self.num_classes is not None and self.num_classes != len(found):
            raise UserError(f'{self.ann_file} has {len(found)} categories, the model {self.num_classes} classes; '
                            'set num_classes of the model to match or use the matching annotations')
        self._metainfo.update(classes=found, cat_ids=self.annotations.cat_ids)

    def _check_images(self) -> None:
        """Check that every video's first frame exists: a half-unpacked set is found before training is.

        Where unreadable frames are skipped, one image of the whole set is enough.
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
        return {'frames': frames, 'rng': rng,
                'on_bad_frame': self._count_bad_frame if skip else None}

    def _frame(self, video: int, frame: int) -> dict:
        height, width = self.annotations.sizes[video].tolist()
        return {'img_path': str(self._img_path(video, frame)), 'video_id': int(self.annotations.video_ids[video]),
                'frame_id': frame, 'video_length': self.annotations.video_length(video), 'height': height,
                'width': width, 'objects': self.annotations.objects(video, frame)}

    def _training_frames(self, video: int, first: int, rng: np.random.Generator) -> list[int]:
        if self.train_clip_len is not None:
            return clip_frames(self.annotations.video_length(video), self.train_clip_len, rng)
        return [first, self._reference(video, first, rng)]

    def _reference(self, video: int, key: int, rng: np.random.Generator) -> int:
        others = self.annotations.annotated_frames(video)
        others = others[others != key]
        near = others[np.abs(others - key) <= self.ref_range]
        if len(near):
            others = near
        return int(rng.choice(others)) if len(others) else key

    def _count_bad_frame(self, error: BadFrameError) -> None:
        worker = get_worker_info()
        self._bad_frames[(0 if worker is None else worker.id + 1) % COUNTERS] += 1
        print_log(f'Skipped a frame: {error}', logger='current', level=logging.WARNING)


def clip_frames(length: int, clip_len: int, rng: np.random.Generator) -> list[int]:
    """Consecutive frames of a video from a random start; if it is too short, all of them and random ones again."""
    if length >= clip_len:
        start = int(rng.integers(length - clip_len + 1))
        return list(range(start, start + clip_len))
    return [*range(length), *rng.integers(length, size=clip_len - length).tolist()]


@DATASETS.register_module()
class OVISDataset(YVISDataset):
    """OVIS: the same files as YouTube-VIS's, with 25 classes and occlusion levels, which only the evaluation reads."""

    METAINFO = {'dataset_type': 'OVIS'}
