"""Workers of a data loader end when they are told to, not when the process does."""
import multiprocessing

from torch.utils.data import DataLoader

from mmdet.engine import VideoRunner
from mmdet.engine.workers import WorkerStart, stop_workers


def test_persistent_workers_end_at_once():
    loader = DataLoader(range(8), num_workers=2, persistent_workers=True, worker_init_fn=WorkerStart(None))
    assert len(list(loader)) == 8
    assert len(multiprocessing.active_children()) == 2
    stop_workers(loader)
    assert multiprocessing.active_children() == []
    assert len(list(loader)) == 8  # the loader can be used again
    stop_workers(loader)


def test_nothing_to_end():
    stop_workers(None)
    stop_workers(DataLoader(range(2)))


def test_no_workers_whatever_the_config_says_about_them():
    loader = VideoRunner.build_dataloader(dict(
        dataset=range(4), batch_size=2, num_workers=0, persistent_workers=True, pin_memory=True,
        sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate')))
    assert list(loader) == [[0, 1], [2, 3]]
