"""Checkpoint files appear complete or not at all, and the best one survives its successor's failure."""
import pytest
from mmengine.hooks import CheckpointHook

from mmdet.engine import AtomicBackend
from mmdet.engine.hooks import AtomicCheckpointHook


def test_a_file_is_there_with_its_content_and_nothing_else(tmp_path):
    AtomicBackend().put(b'abc', tmp_path / 'new' / 'x.pth')
    assert [(path.name, path.read_bytes()) for path in (tmp_path / 'new').iterdir()] == [('x.pth', b'abc')]


class BestHook(AtomicCheckpointHook):
    """With mmengine's choice of the best file replaced by a fixed answer."""

    def __init__(self, folder, chosen):
        super().__init__(interval=1, save_best='AP', rule='greater')
        self.folder, self.chosen = folder, chosen
        self.file_backend = AtomicBackend()


@pytest.mark.parametrize(('chosen', 'left', 'best'), [
    ('b.pth', ['b.pth'], 'b.pth'), (None, ['a.pth'], 'a.pth'), ('a.pth', ['a.pth'], 'a.pth')],
    ids=['a better one', 'none better', 'the same again'])
def test_the_former_best_goes_last(tmp_path, monkeypatch, chosen, left, best):
    (tmp_path / 'a.pth').write_bytes(b'a')
    hook = BestHook(tmp_path, chosen)
    hook.best_ckpt_path = str(tmp_path / 'a.pth')

    def choose(self, runner, metrics):
        assert (tmp_path / 'a.pth').exists() and self.best_ckpt_path is None
        if self.chosen:
            (tmp_path / self.chosen).write_bytes(b'new')
            self.best_ckpt_path = str(tmp_path / self.chosen)

    monkeypatch.setattr(CheckpointHook, '_save_best_checkpoint', choose)
    hook._save_best_checkpoint(None, {'AP': 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert hook.best_ckpt_path == str(tmp_path / best)
