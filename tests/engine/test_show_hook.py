"""Pictures while testing: what an earlier run left is said."""
from argparse import Namespace

import pytest

from mmdet.engine.hooks.show_hook import ShowHook


@pytest.mark.parametrize('old', [True, False])
def test_pictures_of_an_earlier_run_are_said_once(tmp_path, old):
    for number in range(3 * old):
        (tmp_path / f'video{number}').mkdir()
        (tmp_path / f'video{number}' / '00000.png').touch()
    said = []
    runner = Namespace(test_dataloader=Namespace(dataset=Namespace(metainfo={'classes': ('cat',)})),
                       logger=Namespace(warning=said.append, info=lambda text: None))
    hook = ShowHook(str(tmp_path), 0.5)
    hook.before_test_epoch(runner)
    hook.after_test_epoch(runner)
    line = f'{tmp_path} already contains PNG files; those that are not overwritten remain beside the new ones'
    assert said == [line] * old
