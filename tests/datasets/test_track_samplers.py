"""Samplers: distribution among processes, reproducibility, resumption."""
import pickle
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet.datasets.samplers import AspectRatioBatchSampler, SeededSampler, VideoSampler, seeded_sampler, video_sampler
from mmdet.datasets.samplers.video_sampler import share_videos
from mmdet.errors import UserError


class Items:
    """Substitute for a data set, with one dict per item."""

    def __init__(self, items: list[dict]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def get_data_info(self, index: int) -> dict:
        return self.items[index]


def each_process(monkeypatch, world_size, build):
    for rank in range(world_size):
        for module in (seeded_sampler, video_sampler):
            monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, world_size))
        yield build()


@given(frames=st.lists(st.integers(1, 60), min_size=1, max_size=40), world_size=st.integers(1, 8))
def test_videos_are_shared_evenly(frames, world_size):
    frames = np.array(frames)
    owner = share_videos(frames, world_size)
    loads = np.bincount(owner, weights=frames, minlength=world_size)
    assert owner.shape == frames.shape and owner.max() < world_size
    assert loads.max() - loads.min() <= frames.max()
    assert (owner == share_videos(frames, world_size)).all()


@pytest.mark.parametrize('world_size', [1, 2, 3, 8])
def test_video_sampler_is_a_partition_in_order(monkeypatch, world_size):
    lengths = [5, 1, 9, 9, 2]
    items = [{'video': video, 'length': 1} for video, length in enumerate(lengths) for _ in range(length)]
    shares = [list(sampler) for sampler in each_process(monkeypatch, world_size, lambda: VideoSampler(Items(items)))]
    assert sorted(chain(*shares)) == list(range(26))
    videos = [{items[item]['video'] for item in share} for share in shares]
    assert sum(map(len, videos)) == 5  # no video in two processes
    assert all(share == sorted(share) for share in shares)
    if world_size == 2:
        assert sorted(map(len, shares)) == [12, 14]


def test_video_sampler_counts_frames_not_clips(monkeypatch):
    items = [{'video': 0, 'length': 1}] * 4 + [{'video': 1, 'length': 3}, {'video': 2, 'length': 3}]
    shares = [list(sampler) for sampler in each_process(monkeypatch, 2, lambda: VideoSampler(Items(items)))]
    assert shares == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_seeded_sampler_covers_all(monkeypatch, world_size):
    samplers = list(each_process(monkeypatch, world_size, lambda: SeededSampler(Items([{}] * 10), seed=1)))
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {-(-10 // world_size)}
    assert set(chain(*shares)) == set(range(10))
    seeds = [index.seed for share in shares for index in share]
    assert len(set(seeds)) == len(seeds)


def test_epochs_differ_and_repeat():
    sampler = SeededSampler(Items([{}] * 20), seed=1)

    def order(epoch):
        sampler.set_epoch(epoch)
        return [(int(index), index.seed) for index in sampler]
    first, second = order(0), order(1)
    assert first != second and order(0) == first
    assert not {seed for _, seed in first} & {seed for _, seed in second}
    assert list(SeededSampler(Items([{}] * 20), shuffle=False, seed=1)) == list(range(20))


WIDE = [True] * 13 + [False] * 3 + [True] * 4


def batches_of(monkeypatch, world_size, batch_size, skip=0, epoch=0):
    def build():
        sampler = SeededSampler(Items([{'wide': wide} for wide in WIDE]), seed=4)
        sampler.set_epoch(epoch)
        batches = AspectRatioBatchSampler(sampler, batch_size)
        batches.skip(skip)
        length, made = len(batches), list(batches)
        assert length == len(made) + skip == len(list(batches))  # only one epoch is shortened
        return made
    return list(each_process(monkeypatch, world_size, build))


@pytest.mark.parametrize('world_size, batch_size', [(1, 1), (1, 4), (2, 2), (4, 1), (3, 3)])
def test_batches_have_the_same_orientation_in_all_processes(monkeypatch, world_size, batch_size):
    shares = batches_of(monkeypatch, world_size, batch_size)
    assert {index for share in shares for batch in share for index in batch} == set(range(20))
    for step in zip(*shares, strict=True):
        assert all(len(batch) == batch_size for batch in step)
        assert len({WIDE[index] for batch in step for index in batch}) == 1
    seeds = [index.seed for share in shares for batch in share for index in batch]
    assert len(set(seeds)) == len(seeds)


def test_several_processes_have_the_items_of_one(monkeypatch):
    def pairs(batches):
        return [(int(index), index.seed) for index in batches]
    (alone,) = batches_of(monkeypatch, 1, 4)
    shares = batches_of(monkeypatch, 2, 2)
    assert [pairs(a + b) for a, b in zip(*shares)] == [pairs(batch) for batch in alone]


def test_a_step_has_one_seed_of_its_own_in_all_processes(monkeypatch):
    shares = batches_of(monkeypatch, 2, 2)
    seeds = [{index.step_seed for batch in step for index in batch} for step in zip(*shares)]
    assert all(len(step) == 1 for step in seeds) and len(set.union(*seeds)) == len(seeds)
    assert not set.union(*seeds) & {index.seed for share in shares for batch in share for index in batch}
    first = shares[0][0][0]
    sent = pickle.loads(pickle.dumps(first))  # workers get it
    assert (sent.seed, sent.step_seed, sent.place_seed) == (first.seed, first.step_seed, first.place_seed)
    (rest,) = batches_of(monkeypatch, 1, 4, skip=2)
    (whole,) = batches_of(monkeypatch, 1, 4)
    assert [index.step_seed for batch in rest for index in batch] == [i.step_seed for b in whole[2:] for i in b]


@pytest.mark.parametrize('world_size, batch_size', [(2, 2), (3, 3)])
def test_the_same_places_of_all_processes_have_one_seed(monkeypatch, world_size, batch_size):
    places = [{tuple(index.place_seed for index in batch) for batch in step}
              for step in zip(*batches_of(monkeypatch, world_size, batch_size), strict=True)]
    assert all(len(step) == 1 for step in places)
    seeds = [seed for step in places for batch in step for seed in batch]
    assert len(set(seeds)) == len(seeds) == batch_size * len(places)
    (alone,) = batches_of(monkeypatch, 1, 4)
    assert {index.place_seed for batch in alone for index in batch} == {None}
    rest, whole = (batches_of(monkeypatch, 2, 2, skip=skip)[1] for skip in (2, 0))
    assert [index.place_seed for batch in rest for index in batch] == [i.place_seed for b in whole[2:] for i in b]


def test_a_resumed_epoch_continues_where_it_stopped(monkeypatch):
    (whole,) = batches_of(monkeypatch, 1, 3, epoch=5)
    (rest,) = batches_of(monkeypatch, 1, 3, skip=2, epoch=5)
    assert rest == whole[2:]
    assert [index.seed for batch in rest for index in batch] == [i.seed for batch in whole[2:] for i in batch]
    (other,) = batches_of(monkeypatch, 1, 3, epoch=6)
    assert other != whole


def test_other_samplers_are_refused():
    with pytest.raises(UserError, match='SeededSampler'):
        AspectRatioBatchSampler([1, 2, 3], 2)
