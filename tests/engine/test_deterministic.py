"""``--deterministic``: two trainings of a detector on real files give the same bytes; workers change no weight."""
import os

import pytest
import torch
from noisy_training import NoisyRegression, build

from mmdet.apis import load_config, train
from mmdet.engine.determinism import prepare_cublas
from mmdet.errors import UserError

OPTIONS = [('train_cfg.max_epochs', '1'), ('train_dataloader.persistent_workers', 'False')]


@pytest.fixture
def restored():
    """Deterministic algorithms are switched on for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def train_with(workers, toy_config, folder):
    cfg = load_config(toy_config, [*OPTIONS, ('train_dataloader.num_workers', str(workers))])
    train(cfg, work_dir=str(folder), seed=5, deterministic=True)
    return folder / 'epoch_1.pth'


@pytest.mark.slow
def test_two_trainings_give_the_same_bytes_and_workers_the_same_weights(toy_config, tmp_path, restored):
    first, second, other = (train_with(workers, toy_config, tmp_path / str(number))
                            for number, workers in enumerate((0, 0, 2)))
    assert first.read_bytes() == second.read_bytes()
    one, two = (torch.load(path, weights_only=True) for path in (first, other))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(one['state_dict'][name], two['state_dict'][name]) for name in one['state_dict'])


def test_an_operation_that_cannot_repeat_its_numbers_is_one_line(tmp_path, monkeypatch, restored):
    def forward(self, inputs, data_samples, mode='loss'):
        place = torch.zeros(1, dtype=torch.long)
        return {'loss': self.linear.weight.sum() + torch.zeros(2).put_(place, torch.ones(1)).sum()}

    monkeypatch.setattr(NoisyRegression, 'forward', forward)
    with pytest.raises(UserError, match=r'^--deterministic: put_ cannot give the same numbers .* on the CPU'):
        build(tmp_path, randomness={'seed': 1, 'deterministic': True}).train()


def test_a_setting_of_cublas_that_torch_refuses_is_one_line(tmp_path, monkeypatch):
    """torch's words, as it says them only on a GPU."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':0:0')
    prepare_cublas()
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':0:0'

    def forward(self, inputs, data_samples, mode='loss'):
        raise RuntimeError('Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)`, '
                           'you must set an environment variable: CUBLAS_WORKSPACE_CONFIG=:4096:8 or ...')

    monkeypatch.setattr(NoisyRegression, 'forward', forward)
    with pytest.raises(UserError, match=r'^--deterministic: CUBLAS_WORKSPACE_CONFIG=:0:0 lets .* set it to :4096:8$'):
        build(tmp_path).train()
