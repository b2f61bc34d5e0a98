"""Statistics of a memory's reads: closed forms, and that watching changes nothing."""
import math

import pytest
import torch

from mmdet.models.memory import CNPMemory, ReadStatistics
from mmdet.models.memory.read_statistics import perplexity, variation


def watched(units, keep_maps=0, **options):
    """A memory with these feature parts, and what watches it."""
    memory = CNPMemory(channels=units.shape[1], num_units=len(units), **options)
    memory.feat_units.weight.data = torch.cat([units, torch.zeros(len(units), 4)], dim=1)
    statistics = ReadStatistics(keep_maps)
    memory.register_forward_hook(statistics)
    return memory, statistics


def test_two_units_and_two_locations_at_right_angles():
    """Each location wins one unit and reads it with e / (e + 1)."""
    memory, statistics = watched(torch.eye(2), keep_maps=1)
    context, = memory([torch.eye(2).view(1, 2, 1, 2)])
    level, = statistics.levels
    share = math.e / (math.e + 1)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert level.wins.tolist() == [1, 1] and level.weights.tolist() == pytest.approx([1, 1])
    assert level.summary() == pytest.approx(dict(
        units_used=2, effective_units=2, read_units=math.exp(entropy), similarity_spread=1, feature_variation=.5,
        context_variation=variation(context.detach().flatten(1).reshape(2, 2).T),
        context_size=float(context.detach().norm()) / math.sqrt(2)))
    maps, = statistics.maps[0]
    assert maps.winner.tolist() == [[0, 1]] and maps.feature.flatten().tolist() == pytest.approx([1, 1])


def test_reads_are_counted_at_the_temperature_of_the_memory():
    memory, statistics = watched(torch.eye(2), read_temperature=0.5)
    memory([torch.tensor([[1., 0]]).T.view(1, 2, 1, 1)])
    share = math.exp(2) / (math.exp(2) + 1)
    assert statistics.levels[0].weights.tolist() == pytest.approx([share, 1 - share])


def test_alike_units_are_read_alike():
    """Contexts do not vary although the features do; the first unit wins all."""
    memory, statistics = watched(torch.ones(5, 3))
    memory([torch.rand(2, 3, 4, 6)])
    summary = statistics.levels[0].summary()
    assert summary['read_units'] == pytest.approx(5) and summary['effective_units'] == pytest.approx(1)
    assert summary['context_variation'] == pytest.approx(0, abs=1e-9) and summary['feature_variation'] > .01
    assert statistics.levels[0].images == 2 and statistics.levels[0].locations == 48 and statistics.maps == []


def test_batches_add_up_and_the_first_maps_are_kept():
    feats = [torch.randn(3, 8, 4, 4), torch.randn(3, 8, 2, 2)]
    memory, together = watched(torch.randn(6, 8), keep_maps=2)
    memory(feats)
    memory._forward_hooks.clear()
    apart = ReadStatistics(keep_maps=2)
    memory.register_forward_hook(apart)
    for index in range(3):
        memory([feat[index:index + 1] for feat in feats])
    for one, other in zip(together.levels, apart.levels, strict=True):
        assert one.summary() == pytest.approx(other.summary(), rel=1e-4)
    assert len(together.maps) == len(apart.maps) == 2
    assert [maps.winner.shape for maps in together.maps[0]] == [(4, 4), (2, 2)]
    assert torch.equal(together.maps[1][0].winner, apart.maps[1][0].winner)


def test_watching_changes_no_context():
    memory, _ = watched(torch.randn(6, 8))
    feats = [torch.randn(1, 8, 4, 4)]
    seen = memory(feats)
    memory._forward_hooks.clear()
    assert torch.equal(seen[0], memory(feats)[0])


def test_perplexity_is_the_number_of_equal_weights():
    weights = torch.tensor([[1., 0, 0, 0], [.5, .5, 0, 0], [.25, .25, .25, .25]])
    assert perplexity(weights).tolist() == pytest.approx([1, 2, 4])


@pytest.mark.parametrize(('rows', 'expected'), [
    ([[1., 2], [1, 2]], 0), ([[1., 0], [-1, 0]], 1), ([[0., 0], [0, 0]], 0), ([[1., 0], [0, 1]], .5)],
    ids=['alike', 'opposite', 'nothing', 'at right angles'])
def test_variation(rows, expected):
    assert variation(torch.tensor(rows)) == pytest.approx(expected)
