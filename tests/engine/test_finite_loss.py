"""A loss or gradient that is no number: named, dumped, never learnt from; skipped where that is allowed."""
import math

import pytest
import torch
from noisy_training import build, losses_of, recorder_of

from mmdet.apis import load_config, train
from mmdet.engine.hooks import FiniteLossHook
from mmdet.errors import UserError


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_training_stops_with_a_dump_of_the_weights_before(tmp_path, bad):
    runner = build(tmp_path, model={'bad_at': (2,), 'bad': bad})
    with pytest.raises(UserError) as stopped:
        runner.train()
    dump = tmp_path / 'bad_loss_iter_3_rank_0.pth'
    text = str(stopped.value)
    assert text.startswith('iteration 3: not finite: loss_slope in the batch of') and '\n' not in text
    assert str(dump) in text and 'max_skipped' in text
    saved = torch.load(dump, weights_only=True)
    assert not math.isfinite(saved['losses']['loss_slope']) and math.isfinite(saved['losses']['loss_line'])
    assert len(saved['inputs']) == 2 and saved['meta']['iter'] == 3
    assert all(value.isfinite().all() for value in saved['state_dict'].values())
    assert not list(tmp_path.glob('epoch_*.pth'))


def test_skipped_steps_leave_weights_and_momenta_alone(tmp_path):
    runner = build(tmp_path, model={'bad_at': (4, 9)}, finite_loss={'max_skipped': 2})
    runner.train()
    states = recorder_of(runner).states
    assert [i for i in range(1, 18) if states[i] == states[i - 1]] == [4, 9]
    assert all(math.isfinite(loss) == (i not in (4, 9)) for i, loss in losses_of(runner).items())
    assert len(list(tmp_path.glob('bad_loss_*.pth'))) == 2 and (tmp_path / 'epoch_3.pth').exists()


def test_one_more_than_allowed_stops(tmp_path):
    with pytest.raises(UserError, match='iteration 6: not finite'):
        build(tmp_path, model={'bad_at': (1, 5)}, finite_loss={'max_skipped': 1}).train()


def test_a_bad_gradient_of_a_good_loss(tmp_path):
    with pytest.raises(UserError, match='iteration 2: not finite: the gradient in the batch of'):
        build(tmp_path, model={'bad_at': (1,), 'bad_gradient': True}).train()


def test_gradients_that_are_added_up_count_together(tmp_path):
    """The bad loss is of the first half of a step."""
    runner = build(tmp_path, model={'bad_at': (2,)}, optim_wrapper={
        'type': 'OptimWrapper', 'accumulative_counts': 2, 'optimizer': {'type': 'SGD', 'lr': 0.003}})
    with pytest.raises(UserError, match='iteration 4: not finite'):
        runner.train()


def test_a_diverging_training_of_a_detector(toy_config, tmp_path):
    cfg = load_config(toy_config, [('optim_wrapper.optimizer.lr', '1e30'), ('train_dataloader.num_workers', '0'),
                                   ('train_dataloader.persistent_workers', 'False'), ('param_scheduler', 'None')])
    with pytest.raises(UserError) as stopped:
        train(cfg, work_dir=str(tmp_path))
    text = str(stopped.value)
    assert text.startswith('iteration 2: not finite: loss_') and text.count('.jpg') == 8 and '\n' not in text
    saved = torch.load(tmp_path / 'bad_loss_iter_2_rank_0.pth', weights_only=True)
    assert [len(clip) for clip in saved['frames']] == [2] * 4
    frame = saved['frames'][0][0]
    assert frame['img_path'] in text and len(frame['bboxes']) == len(frame['masks']) == len(frame['labels']) > 0


def test_wrong_setting():
    with pytest.raises(UserError, match='max_skipped=-1'):
        FiniteLossHook(max_skipped=-1)
