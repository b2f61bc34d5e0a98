"""Items are started before their predecessors are finished; order and errors are those of a plain loop."""
import pytest

from mmdet.concurrency import overlapped


class Work:
    """Notes the halves in the order of their calls; some of them fail."""

    def __init__(self, items=3, **failing):
        self.items, self.failing, self.notes = items, failing, []

    def __iter__(self):
        for item in range(self.items):
            self.note('item', item)
            yield item

    def start(self, item):
        self.note('start', item)

        def finish():
            self.note('finish', item)
            return 10 * item
        return finish

    def note(self, half, item):
        if self.failing.get(half) == item:
            raise ValueError(f'{half} {item}')
        self.notes.append(f'{half} {item}')

    def results(self):
        """The results up to the error, and its message."""
        found, error = [], None
        try:
            for pair in overlapped(self, self.start):
                found.append(pair)
        except ValueError as raised:
            error = str(raised)
        return found, error


def test_an_item_is_started_before_its_predecessor_is_finished():
    work = Work()
    assert work.results() == ([(0, 0), (1, 10), (2, 20)], None)
    assert work.notes == ['item 0', 'start 0', 'item 1', 'start 1', 'finish 0', 'item 2', 'start 2', 'finish 1',
                          'finish 2']


@pytest.mark.parametrize('number', [0, 1])
def test_few_items(number):
    assert Work(number).results() == ([(0, 0)][:number], None)


@pytest.mark.parametrize('half', ['item', 'start', 'finish'])
@pytest.mark.parametrize('failing', [0, 1, 2])
def test_an_error_comes_once_and_after_all_earlier_results(half, failing):
    work = Work(**{half: failing})
    assert work.results() == ([(item, 10 * item) for item in range(failing)], f'{half} {failing}')
    assert len(work.notes) == len(set(work.notes))


def test_the_first_of_two_errors_is_raised():
    assert Work(start=2, finish=1).results() == ([(0, 0)], 'finish 1')


def test_an_iteration_that_is_left_starts_nothing_more():
    work = Work()
    steps = overlapped(work, work.start)
    assert next(steps) == (0, 0)
    steps.close()
    assert work.notes[-1] == 'finish 0' and 'start 2' not in work.notes
