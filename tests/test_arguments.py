"""Numbers given as arguments: accepted as they are, or one line with the argument, its limits and the value."""
import re

import numpy as np
import pytest

from mmdet.arguments import (
    checked_count,
    checked_flag,
    checked_number,
    checked_numbers,
    checked_positive,
    checked_range,
    checked_settings,
    require_number,
    wrong_arguments,
)
from mmdet.errors import UserError


def test_valid_numbers_are_returned():
    assert checked_number('x', 0, 0, 1) == 0 and checked_number('x', 1.0, 0, 1) == 1 and checked_number('x', 7, 1) == 7
    assert checked_number('x', np.float32(0.5), 0, 1) == 0.5 and checked_count('x', np.int64(3), 1) == 3
    assert checked_positive('x', 1e-9) == 1e-9
    assert checked_flag('x', True) is True and checked_flag('x', 1) is True and checked_flag('x', False) is False
    assert checked_numbers('x', [1, 2, 3], 3, 0) == (1, 2, 3)
    assert checked_range('x', (3, float('inf')), 0) == (3, float('inf'))
    assert checked_range('x', [1, 2], 0) == (1, 2) and checked_range('x', (0.5, 0.5), 0, 1) == (0.5, 0.5)


@pytest.mark.parametrize(('check', 'value', 'words'), [
    (lambda value: checked_number('Memory decay', value, 0, 1), value, 'Memory decay must be a number from 0 to 1')
    for value in (-0.1, 1.1, float('nan'), True, '0.5', None, [0.5])
] + [
    (lambda value: checked_number('x', value, 2), value, f'x must be a number of at least 2, not {value}')
    for value in (1, float('inf'))
] + [
    (lambda value: checked_positive('x', value), value, 'x must be a number above 0, not ')
    for value in (0, -1, float('inf'), float('nan'), '1', True)
] + [
    (lambda value: checked_count('x', value, 1), value, 'x must be an integer of at least 1, not ')
    for value in (0, 1.0, True, '2', None)
] + [
    (lambda value: checked_flag('x', value), value, 'x must be True or False, not ')
    for value in ('maybe', 'False', 2, 1.0, None, [True])
] + [
    (lambda value: checked_range('x', value, 0), value, words) for value, words in (
        (3, 'x must be two numbers (least, most), not 3'), ((1, 2, 3), 'x must be two numbers'),
        ((2, 1), 'x must be two numbers (least, most), the lower first, not (2, 1)'),
        ((-1, 1), 'x must be a number of at least 0, not -1'),
        ((float('inf'), float('inf')), 'x must be a number of at least 0, not inf'),
        ((1, True), 'x must be a number of at least 0, not True'))
] + [
    (lambda value: checked_numbers('x', value, 2, 0, 1), value, words) for value, words in (
        (3, 'x must be 2 numbers, not 3'), ('ab', "x must be 2 numbers, not 'ab'"), ((1,), 'x must be 2 numbers'),
        ((0, 2), 'x must be a number from 0 to 1, not 2'))])
def test_other_values_are_one_line(check, value, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        check(value)
    assert repr(value) in str(error.value) or isinstance(value, tuple)


def test_numbers_of_numpy_are_numbers():
    require_number('x', np.float32(.5))
    require_number('x', np.int64(3), whole=True)
    for value, whole, words in (('0.3', False, "x '0.3': is a str, not a number such as 0.3"),
                                (2.5, True, 'x 2.5: is a float, not a whole number such as 1'),
                                (True, False, 'x True: is a bool')):
        with pytest.raises(UserError, match=re.escape(words)):
            require_number('x', value, whole)


def test_settings_are_dicts_with_known_keys():
    assert checked_settings('x', dict(a=1), ['a', 'b']) == dict(a=1) and checked_settings('x', dict(c=1)) == dict(c=1)
    with pytest.raises(UserError, match="x has no key 'c'; use a, b"):
        checked_settings('x', dict(c=1), ['a', 'b'])
    with pytest.raises(UserError, match=r'x must be a dict with some of a, b, not \[1\]'):
        checked_settings('x', [1], ['a', 'b'])


def test_unknown_and_missing_arguments_of_a_config_are_one_line():
    def build(size):
        return size + None

    for given, words in ((dict(sise=1), "unexpected keyword argument 'sise'"), ({}, "missing 1 required")):
        with pytest.raises(UserError, match=f'config key model: .*{words}'), wrong_arguments('model'):
            build(**given)
    with pytest.raises(TypeError, match='unsupported operand'), wrong_arguments('model'):  # a fault of the class
        build(size=1)
