"""``--deterministic``: two trainings of a detector on real files give the same bytes; workers change no weight."""
import pytest
import torch

from mmdet.apis import load_config, train

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


def test_two_trainings_give_the_same_bytes_and_workers_the_same_weights(toy_config, tmp_path, restored):
    first, second, other = (train_with(workers, toy_config, tmp_path / str(number))
                            for number, workers in enumerate((0, 0, 2)))
    assert first.read_bytes() == second.read_bytes()
    one, two = (torch.load(path, weights_only=True) for path in (first, other))
    assert one['state_dict'].keys() == two['state_dict'].keys()
    assert all(torch.equal(one['state_dict'][name], two['state_dict'][name]) for name in one['state_dict'])
