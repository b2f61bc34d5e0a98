"""Table of trained models: a config of this project and published weights for each name.

Called by tools/video_demo.py (``--model NAME``; :data:`DEFAULT` without it). The weights are listed in
:mod:`mmdet.zoo`.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmdet.shipped import CONFIGS


@dataclass(frozen=True)
class TrainedModel:
    """A model that can be used without further training.

    Args:
        config: path of the config.
        weights: name in :data:`mmdet.zoo.WEIGHTS`, or any other argument of :func:`mmdet.checkpoint.find_checkpoint`.
    """

    config: Path
    weights: str


def _videomt(size: str, data: str) -> TrainedModel:
    return TrainedModel(CONFIGS / f'videomt_{size}_{data}.py', f'videomt_{size}_{data}')


def _maskrcnn(name: str) -> TrainedModel:
    return TrainedModel(CONFIGS / f'maskrcnn_{name}_coco.py', f'maskrcnn_{name.replace("r50", "resnet50")}_coco')


DEFAULT = 'maskrcnn-r50-v2-coco'
MODELS: dict[str, TrainedModel] = {
    DEFAULT: _maskrcnn('r50_fpn_v2'),
    'maskrcnn-r50-coco': _maskrcnn('r50_fpn'),
    'videomt-s-ytvis19': _videomt('small', 'ytvis2019'),
    'videomt-b-ytvis19': _videomt('base', 'ytvis2019'),
    'videomt-l-ytvis19': _videomt('large', 'ytvis2019'),
    'videomt-l-ytvis21': _videomt('large', 'ytvis2021'),
    'videomt-l-ytvis22': _videomt('large', 'ytvis2022'),
    'videomt-l-ovis': _videomt('large', 'ovis'),
}
