"""What is printed: messages without prefixes, scores once, settings only in the log file, and no warning twice."""
import logging
import os
import sys
import warnings

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from noisy_training import build
from torch.utils.data import Dataset

from mmdet.console import shorten_console
from mmdet.engine import VideoRunner, workers
from mmdet.engine.workers import stop_workers

TABLE = '\nsegm, video AP and AR (%)\n  AP     IoU .50:.95           12.00'
SCORES = 'Epoch(val) [1][2/2]    segm_AP: 0.1200  data_time: 0.1  time: 0.2'


@pytest.fixture
def console(capsys, tmp_path, request):
    """A function that logs messages and gives what is printed; all of them are in the log file."""

    def log(*messages, level=logging.INFO, log_level='INFO'):
        path = tmp_path / 'log.txt'
        logger = MMLogger(request.node.name, log_file=str(path), log_level=log_level)
        shorten_console(logger)
        for message in messages:
            print_log(message, logger, level)
        logger.handlers[1].close()
        assert all(message in path.read_text() for message in messages)
        return capsys.readouterr().out

    return log


@pytest.mark.parametrize('detail', [
    '\n----\nSystem environment:\n  sys.platform: linux', 'Config:\na = 1', 'Hooks will be executed in the following',
    'paramwise_options -- backbone.lr=1', 'neck.bias is skipped since its requires_grad=False', 'Exp name: toy_1',
    'Epoch(val) [1][50/90]    eta: 0:00:01  time: 1.3'])
def test_settings_are_only_in_the_log_file(console, detail):
    assert console(detail) == ''
    assert detail in console(detail, log_level='DEBUG')


def test_a_line_of_losses_has_no_prefix_and_no_columns_of_diagnosis(console):
    text = console('Epoch(train) [1][20/40]  lr: 1e-04  time: 0.9  data_time: 0.01  grad_norm: 14.6  loss: 4.8')
    assert text == 'Epoch(train) [1][20/40]  lr: 1e-04  time: 0.9  loss: 4.8\n'


def test_scores_are_printed_once(console):
    assert console(TABLE, SCORES) == TABLE + '\n'
    # a metric without a table
    assert console(SCORES) == 'Epoch(val) [1][2/2]    segm_AP: 0.1200  time: 0.2\n'
    assert console('The best checkpoint with 0.1200 segm_AP at 1 epoch is saved to best.pth.') == (
        'The best checkpoint at 1 epoch is saved to best.pth.\n')


def test_warnings_and_other_hooks_are_printed(console):
    assert console('the training ends early', level=logging.WARNING) == 'warning: the training ends early\n'
    assert console('EarlyStoppingHook: no improvement') == 'EarlyStoppingHook: no improvement\n'


class WarningItems(Dataset):
    """Items whose loading warns in two ways, and one item whose loading warns in its own way."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        warnings.warn('deprecated thing', stacklevel=1)
        print_log('damaged thing', 'current', logging.WARNING)
        if index == 3:
            print_log('item 3 is missing', 'current', logging.WARNING)
        return index


@pytest.mark.parametrize('persistent', [False, True])
def test_workers_do_not_repeat_a_warning(capfd, monkeypatch, persistent):
    monkeypatch.setattr(workers, '_warned_once', workers.WarnedOnce())
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0})
    monkeypatch.setattr(warnings, 'showwarning', lambda text, kind, *_: print(f': {text}', file=sys.stderr, flush=True))
    warnings.simplefilter('always')
    name = f'warnings of workers, persistent {persistent}'
    MMLogger.get_instance(name)
    loader = VideoRunner.build_dataloader(dict(
        dataset=WarningItems(), batch_size=1, num_workers=2, persistent_workers=persistent,
        sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate')))
    try:
        assert [list(loader) for _ in range(2)] == [[[0], [1], [2], [3]]] * 2
    finally:
        stop_workers(loader)
        MMLogger._instance_dict.pop(name)
    printed = ''.join(capfd.readouterr())
    for text in ('deprecated thing', 'damaged thing', 'item 3 is missing'):
        assert printed.count(f': {text}') + printed.count(f'- {text}') == 1, printed
    assert 'This DataLoader will create' not in printed
    assert printed.count('num_workers=2: this process may use only 1 CPU cores') == 1


def test_runs_of_one_process_write_their_curves_to_their_own_folders(tmp_path):
    settings = Config.fromfile('configs/_base_/default_runtime.py').visualizer
    for name in ('first', 'second'):
        build(tmp_path / name, visualizer=dict(settings),
              train_cfg=dict(type='ResumableTrainLoop', max_epochs=1)).train()
        assert len(list((tmp_path / name).glob('*/vis_data/scalars.json'))) == 1, name
