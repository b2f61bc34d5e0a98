"""A wrong value of any argument of any transform, or of the data set's clips, is a UserError of one line."""
import inspect

import pytest

from mmdet.datasets import YVISDataset
from mmdet.errors import UserError
from mmdet.registry import TRANSFORMS

WRONG = (None, 'x', -1, float('nan'), True, 2.5, 1e9, {}, (), [1], (2, 1), ('a', 'b'), (-1, 1), (float('nan'), 1),
         (1, 2, 3))
NEEDED = {'ResizeClip': dict(scale=(9, 9)), 'RandomResizeClip': dict(scales=[(9, 9)]),
          'RandomChoiceResizeClip': dict(scales=[(9, 9)]), 'RandomResizeCropClip': dict(scales=[(9, 9)], crop=(3, 5))}
CLIPS = ('clip_len', 'context', 'train_clip_len', 'ref_range', 'clip_interval', 'reverse_prob', 'max_refetch')


def refusals(create, name):
    """Number of values that are refused; any other error than UserError fails the test."""
    count = 0
    for value in WRONG:
        try:
            create(**{name: value})
        except UserError as error:
            assert '\n' not in str(error)
            count += 1
    return count


@pytest.mark.parametrize('name', ['RandomScaleCropClip', 'CopyPasteClip', 'AffineMotionClip', 'PhotometricDistortClip',
                                  'AffineColourReference', 'RandomFlipClip', 'RotateStillClip', *NEEDED])
def test_transforms(name):
    kind = TRANSFORMS.get(name)
    for argument in inspect.signature(kind).parameters:
        if argument not in ('keep_ratio', 'per_step'):
            assert refusals(lambda **given: kind(**NEEDED.get(name, {}) | given), argument) >= 10, argument


@pytest.mark.parametrize('argument', CLIPS)
def test_clips_of_a_data_set(argument):
    assert refusals(lambda **given: YVISDataset('x.json', lazy_init=True, **dict(train_clip_len=3) | given),
                    argument) >= 10
