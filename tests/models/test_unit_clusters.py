"""Initial units of the memory: k-means in closed form, and weights with and without the record of it."""
import math

import pytest
import torch

from mmdet.checkpoint import load_model
from mmdet.models.memory import CNPMemory, unit_sets
from mmdet.models.memory.unit_clusters import cluster, initialize_units, spread
from tests.helpers.models import build_memcnp


def groups_of_values(per_group=10):
    """(3, per_group, 2 + 4): features in three narrow sectors 90° apart, of different lengths; boxes differ, too."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.arange(3)[:, None] * math.pi / 2 + 0.1 * torch.rand(3, per_group, generator=generator)
    lengths = 1 + torch.rand(3, per_group, generator=generator)
    features = torch.stack([lengths * angles.cos(), lengths * angles.sin()], dim=2)
    return torch.cat([features, torch.rand(3, per_group, 4, generator=generator)], dim=2)


def in_order(units):
    """Units in the order of their angles."""
    return units[(units[:, 1].atan2(units[:, 0]) % (2 * math.pi)).argsort()]


@pytest.mark.parametrize('seed', range(5))
def test_units_are_the_means_of_the_groups(seed):
    values = groups_of_values()
    units = cluster(torch.randn(3, 6), values.flatten(0, 1), seed)
    assert torch.allclose(in_order(units), values.mean(dim=1), atol=1e-5)


def test_the_random_numbers_of_a_training_are_not_used():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    cluster(torch.zeros(3, 6), groups_of_values().flatten(0, 1), seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize('count', [0, 2])
def test_units_beyond_the_values_keep_their_initial_values(count):
    values, units = groups_of_values()[:, 0][:count], torch.randn(4, 6)
    after = cluster(units, values, seed=0)
    assert torch.allclose(in_order(after[:count]), values, atol=1e-5) and torch.equal(after[count:], units[count:])


def test_centres_spread_over_the_directions():
    directions = torch.eye(4).repeat_interleave(5, dim=0)
    for seed in range(10):
        chosen = spread(directions, 4, torch.Generator().manual_seed(seed))
        assert sorted(index // 5 for index in chosen) == [0, 1, 2, 3]
    assert len(spread(torch.ones(3, 1), 9, torch.Generator())) == 3


@pytest.mark.parametrize('per_level', [False, True])
def test_units_of_all_levels_and_of_each(per_level):
    memory = CNPMemory(channels=2, num_units=3, per_level=per_level, num_levels=2, init_units='kmeans')
    assert memory.needs_values
    values = groups_of_values()
    flat = values.flatten(0, 1)
    initialize_units(memory, [flat, 2 * flat] if per_level else [flat[::2], flat[1::2]], seed=0)
    assert not memory.needs_values
    for scale, units in enumerate(unit_sets(memory).detach(), start=1):
        assert torch.allclose(in_order(units), scale * values.mean(dim=1), atol=1e-5)


def test_weights_without_the_record_count_as_initialised():
    small = dict(embed_dims=32, channels=32)
    published, clustered = build_memcnp(**small), build_memcnp(**small, memory=dict(init_units='kmeans'))
    record = set(clustered.state_dict()) - set(published.state_dict())
    assert record == {'bbox_head.mem.initialized'} and clustered.bbox_head.mem.needs_values
    load_model(published, 'untrained.pth', dict(state_dict=clustered.state_dict()))
    load_model(clustered, 'published.pth', dict(state_dict=published.state_dict()))
    assert not clustered.bbox_head.mem.needs_values
    load_model(build_memcnp(**small), 'clustered.pth', dict(state_dict=clustered.state_dict()))
