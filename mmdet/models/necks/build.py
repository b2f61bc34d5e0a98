"""Build a neck and check it against the backbone and the head; called by the detectors' constructors."""
from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from torch import nn

from mmdet.errors import UserError
from mmdet.registry import MODELS


def build_neck(neck: dict, backbone: nn.Module, head_strides: Sequence[int] | None = None,
               option: str = 'bbox_head.strides') -> nn.Module:
    """Build a neck; if ``in_channels`` is missing in its config or None, it is taken from the backbone.

    Args:
        neck: config.
        backbone: its ``out_channels`` and ``out_strides`` describe its maps; without them, the config needs
            ``in_channels``.
        head_strides: strides of the levels that the head expects; None skips this check.
        option: config key of ``head_strides``, for the error message.

    Raises:
        UserError: if channels or strides are inconsistent; the message contains the correct values.
    """
    channels = getattr(backbone, 'out_channels', None)
    given = neck.get('in_channels')
    name = f'{type(backbone).__name__} {getattr(backbone, "name", "")}'.rstrip()
    if given is None and channels is None:
        raise UserError(f'model.neck.in_channels is missing and {name} has no attribute out_channels; set it to a list '
                        'with the channels of each backbone output')
    if given is not None and channels is not None and list(given) != list(channels):
        raise UserError(f'model.neck.in_channels={list(given)}, but {name} has {list(channels)} output channels; set '
                        f'model.neck.in_channels=None (taken from the backbone) or {list(channels)}')
    strides = getattr(backbone, 'out_strides', None)
    start = neck.get('start_level', 0)
    if strides is not None and head_strides is not None:
        levels = list(strides[start:])
        wrong = [(level, head) for level, head in zip(levels, head_strides) if level != head]
        if wrong or not levels:
            last = levels[-1] if levels else strides[-1]
            while len(levels) < len(head_strides):
                levels.append(last := 2 * last)
            raise UserError(f'model.{option}={list(head_strides)}, but {name} has maps of strides {list(strides)} and '
                            f'the neck starts with the map of index model.neck.start_level={start}; set '
                            + (f'model.neck.start_level={strides.index(head_strides[0])}' if head_strides[0] in strides
                               else f'model.{option}={levels[:len(head_strides)]}'))
    return MODELS.build({**neck, 'in_channels': list(given or channels or ())})


def check_normalization(backbone: nn.Module, data_preprocessor: nn.Module | None) -> None:
    """Log a warning if images are not normalised as the published weights of the backbone expect."""
    expected = getattr(backbone, 'normalization', None)
    if (expected is None or data_preprocessor is None or not hasattr(data_preprocessor, 'mean')
            or not (backbone.pretrained or backbone.init_cfg)):
        return
    mean, std = (data_preprocessor.get_buffer(name).flatten().tolist() for name in ('mean', 'std'))
    same = all(abs(own - theirs) < 0.6 for values, other in zip((mean, std), expected)
               for own, theirs in zip(values, other))
    if not same or not data_preprocessor.bgr_to_rgb:
        rounded = [[round(value, 3) for value in values] for values in expected]
        print_log(f'{type(backbone).__name__} {backbone.name} was trained on images normalised with mean {rounded[0]} '
                  f'and std {rounded[1]} of RGB values, but the config has other values: set '
                  'model.data_preprocessor.mean and .std to these values and .bgr_to_rgb=True, or accuracy will suffer',
                  'current', logging.WARNING)
