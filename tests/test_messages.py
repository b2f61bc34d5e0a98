"""Helpers for messages."""
import pytest

from mmdet.errors import counted, shortened


@pytest.mark.parametrize(('noun', 'plural'), [
    ('frame', 'frames'), ('category', 'categories'), ('key', 'keys'), ('box', 'boxes'), ('class', 'classes'),
    ('batch', 'batches'), ('epoch', 'epochs'), ('damaged frame', 'damaged frames')])
def test_only_one_is_in_the_singular(noun, plural):
    assert [counted(number, noun) for number in (0, 1, 2)] == [f'0 {plural}', f'1 {noun}', f'2 {plural}']


def test_long_lists_are_shortened():
    assert shortened(['a', 'b']) == 'a, b' and shortened(['a', 'b', 'c'], shown=2) == 'a, b and 1 more'
