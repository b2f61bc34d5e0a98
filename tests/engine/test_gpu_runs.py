"""Trainings and tests on GPUs, as a user runs them: killed and resumed, in half precision, twice the same, on two."""
import pytest
import torch

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


@pytest.fixture(scope='module')
def float16_config(toy_config):
    """The toy config in float16; the loss scale doubles after every third step."""
    path = toy_config.with_name('float16.py')
    path.write_text(f"""
_base_ = '{toy_config}'
optim_wrapper = dict(type='AmpOptimWrapper', dtype='float16', loss_scale=dict(init_scale=2.0, growth_interval=3))
""")
    return path


@pytest.fixture(scope='module')
def run(command):
    """Runs a script on the GPUs."""
    return lambda *args, **options: command(*args, on_gpu=True, **options)


@pytest.fixture(scope='module')
def trained(toy_config, run, tmp_path_factory):
    """Working directory of a training of two epochs on one GPU."""
    folder = tmp_path_factory.mktemp('trained')
    run('train.py', toy_config, '--work_dir', folder)
    return folder


def result_of(run, config, checkpoint, folder, *options):
    """The two result files of a test of a checkpoint."""
    run('test_video.py', config, checkpoint, '--out', folder / 'x.pkl', '--work_dir', folder, *options)
    return [(folder / name).read_bytes() for name in ('x.pkl', 'x.pkl.json')]


def test_killed_training_resumes_with_the_losses_of_a_whole_one(
        toy_config, trained, run, killed, logged_losses, tmp_path):
    killed('train.py', toy_config, '--work_dir', tmp_path, once=tmp_path / 'epoch_1.pth', on_gpu=True)
    (tmp_path / 'epoch_2.pth').unlink(missing_ok=True)
    run('train.py', toy_config, '--work_dir', tmp_path, '--resume')
    whole, resumed = logged_losses(trained), logged_losses(tmp_path)
    assert sorted(resumed) == [1, 2, 3, 4]
    assert resumed == pytest.approx(whole, rel=1e-4)


def test_a_resumed_float16_training_goes_on_with_its_loss_scale(float16_config, run, logged_losses, tmp_path):
    run('train.py', float16_config, '--work_dir', tmp_path / 'whole')
    run('train.py', float16_config, '--work_dir', tmp_path / 'resumed', '--resume_from',
        tmp_path / 'whole' / 'epoch_1.pth')
    half, whole, resumed = (torch.load(tmp_path / name, weights_only=True)['optimizer']['loss_scaler']
                            for name in ('whole/epoch_1.pth', 'whole/epoch_2.pth', 'resumed/epoch_2.pth'))
    assert (half['scale'], half['_growth_tracker']) == (2, 2)
    assert (whole['scale'], whole['_growth_tracker']) == (4, 1)
    assert resumed == whole
    losses = logged_losses(tmp_path / 'whole')
    assert logged_losses(tmp_path / 'resumed') == pytest.approx({step: losses[step] for step in (3, 4)}, rel=1e-2)


def test_two_tests_write_the_same_result(toy_config, trained, run, tmp_path):
    first, second = (result_of(run, toy_config, trained / 'epoch_2.pth', tmp_path / name) for name in ('one', 'two'))
    assert first == second and len(first[0]) > 1000


def test_two_deterministic_trainings_give_the_same_weights_and_result(toy_config, run, logged_losses, tmp_path):
    results = []
    for folder in (tmp_path / 'one', tmp_path / 'two'):
        run('train.py', toy_config, '--work_dir', folder, '--seed', 7, '--deterministic')
        results.append(result_of(run, toy_config, folder / 'epoch_2.pth', folder))
    one, two = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=True)['state_dict'] for name in ('one', 'two'))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert logged_losses(tmp_path / 'one') == logged_losses(tmp_path / 'two')
    assert results[0] == results[1]


@pytest.mark.cuda(2)
def test_two_gpus_train_and_test_as_one_does(toy_config, run, logged_losses, tmp_path):
    run('train.py', toy_config, '--work_dir', tmp_path, '--gpus', 2, '--cfg-options', 'train_dataloader.batch_size=2')
    assert sorted(logged_losses(tmp_path)) == [1, 2, 3, 4]
    one, two = (result_of(run, toy_config, tmp_path / 'epoch_2.pth', tmp_path / str(gpus), '--gpus', gpus)
                for gpus in (1, 2))
    assert one == two and len(one[0]) > 1000
