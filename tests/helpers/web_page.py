"""What the tests of the page share; the fixtures are in tests/apis/web_page/conftest.py."""
import importlib.util
import time

import pytest

from mmdet.apis.web_demo import Outcome, Step, annotate

needs_gradio = pytest.mark.skipif(importlib.util.find_spec('gradio') is None,
                                  reason='needs Gradio, pip install .[web]')
CLASSES = ('disc', 'square', 'triangle')
FRAMES = 8
WAITED = 60  # seconds


def outcome(*args, **options):
    *steps, last = annotate(*args, **options)
    assert all(isinstance(step, Step) for step in steps) and isinstance(last, Outcome)
    return last


def until(condition):
    """Wait for a condition and return its value."""
    end = time.monotonic() + WAITED
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value
