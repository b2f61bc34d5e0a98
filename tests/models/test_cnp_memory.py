"""The memory: address, write and read in closed form, and write targets."""
import doctest
import math

import pytest
import torch
import torch.nn.functional as F

from mmdet.errors import UserError
from mmdet.models.memory import CNPMemory, cnp_memory
from mmdet.models.memory.cnp_memory import address, read_weights, unit_sets, write, write_targets, write_weights


def test_the_example_of_the_docstring():
    result = doctest.testmod(cnp_memory, extraglobs=dict(torch=torch))
    assert result.attempted >= 8 and result.failed == 0


def test_address_is_the_cosine_of_the_feature_parts():
    units = torch.tensor([[3.0, 0.0, 9, 9, 9, 9], [0.0, 2.0, 9, 9, 9, 9]])
    assert torch.allclose(address(F.normalize(torch.tensor([[5.0, 0.0], [1.0, 1.0]]), dim=1), units),
                          torch.tensor([[1.0, 0.0], [0.5 ** 0.5, 0.5 ** 0.5]]))


@pytest.mark.parametrize(('mode', 'nonzero'), [('top1', 1), ('topk', 2), ('all', 20)])
def test_write_weights_sum_to_one_over_the_chosen_units(mode, nonzero):
    weights = write_weights(torch.randn(7, 20), mode)
    assert torch.allclose(weights.sum(dim=1), torch.ones(7))
    assert ((weights > 0).sum(dim=1) == nonzero).all()


def test_written_units_move_to_the_mean_and_others_decay():
    units = torch.ones(2, 3)
    values = torch.tensor([[2.0, 4.0, 6.0], [4.0, 6.0, 8.0]])
    after = write(units, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), values, momentum=0.9)
    assert torch.allclose(after[0], 0.9 + 0.1 * torch.tensor([3.0, 5.0, 7.0]))
    assert torch.allclose(after[1], torch.full((3,), 0.9))


def test_units_without_locations_do_not_decay_if_they_are_counted():
    """Counts 0, 2 and 1/4 at momentum 0.9: unchanged, as published, and a quarter of the step."""
    units = torch.full((3, 3), 0.3)
    values = torch.tensor([[2.0, 4.0, 6.0], [4.0, 6.0, 8.0]])
    weights = torch.tensor([[0, 1.0, 0.25], [0, 1.0, 0]])
    after, published = (write(units, weights, values, 0.9, decay) for decay in ('counted', 'all'))
    assert torch.equal(after[0], units[0])
    assert torch.allclose(after[1], published[1])
    assert torch.allclose(after[2], units[2] + 0.1 / 4 * (values[0] - units[2]), atol=1e-5)


def test_counted_units_of_a_memory_stay_where_they_are_if_nothing_is_written():
    memory = CNPMemory(channels=4, num_units=3, momentum=0.5, decay='counted')
    before = memory.feat_units.weight.detach().clone()
    memory([torch.randn(1, 4, 2, 2)], torch.zeros(1, 4, 4), torch.zeros(1, 4, dtype=torch.bool))
    assert torch.equal(memory.feat_units.weight, before)


@pytest.mark.parametrize('update_mode', ['top1', 'topk', 'all'])
def test_units_of_a_level_are_those_of_a_memory_that_sees_this_level_only(update_mode):
    """Units, contexts, and gradients after a write of three levels."""
    options = dict(channels=4, num_units=5, momentum=0.6, update_mode=update_mode)
    whole = CNPMemory(**options, per_level=True, num_levels=4)
    assert whole.feat_units.weight.shape == (20, 8)
    feats = [torch.randn(2, 4, size, size + 1) for size in (3, 2, 1)]  # the fourth level is not given
    counts = [feat.shape[2] * feat.shape[3] for feat in feats]
    targets, written = torch.rand(2, sum(counts), 4), torch.rand(2, sum(counts)) > 0.3
    singles = []
    for level in range(4):
        singles.append(CNPMemory(**options))
        singles[-1].load_state_dict({**whole.state_dict(), 'feat_units.weight': unit_sets(whole)[level].detach()})
    read = whole(feats)
    contexts = whole(feats, targets, written)
    sum(context.square().sum() for context in contexts).backward()
    for level, (single, feat, target, chosen) in enumerate(
            zip(singles, feats, targets.split(counts, dim=1), written.split(counts, dim=1))):
        assert torch.allclose(read[level], single([feat])[0], atol=1e-6)
        context, = single([feat], target, chosen)
        context.square().sum().backward()
        assert torch.allclose(contexts[level], context, atol=1e-6)
        assert torch.allclose(unit_sets(whole)[level], single.feat_units.weight, atol=1e-6)
        assert torch.allclose(whole.feat_units.weight.grad.view(4, 5, 8)[level], single.feat_units.weight.grad,
                              atol=1e-5)
    assert torch.equal(unit_sets(whole)[3], singles[3].feat_units.weight)


def test_reading_leaves_the_memory_alone_and_passes_no_gradient_to_the_feature():
    memory = CNPMemory(channels=8, num_units=6)
    before = memory.feat_units.weight.detach().clone()
    feat = torch.randn(2, 8, 3, 5, requires_grad=True)
    context, = memory([feat])
    assert context.shape == feat.shape
    context.sum().backward()
    assert feat.grad is None
    assert memory.feat_units.weight.grad.abs().sum() > 0
    assert torch.equal(memory.feat_units.weight, before)


def test_context_is_the_mlp_of_the_softmax_average_of_normalised_units():
    memory = CNPMemory(channels=4, num_units=3)
    feat = torch.randn(1, 4, 1, 1)
    units = memory.feat_units.weight
    weights = address(F.normalize(feat.view(1, 4), dim=1), units).softmax(dim=1)
    read = weights @ (units / units.norm(dim=1, keepdim=True))
    assert torch.allclose(memory([feat])[0].view(1, 4), memory.mlp(read), atol=1e-6)


@pytest.mark.parametrize('temperature', [1.0, 0.1, 2])
def test_read_weights_are_a_softmax_at_a_temperature(temperature):
    """Cosines 1 and 0: the ratio of the weights is exp(1 / T)."""
    weights = read_weights(torch.tensor([[1.0, 0.0]]), temperature)
    assert weights[0].tolist() == pytest.approx([1 / (1 + math.exp(-1 / temperature)),
                                                 1 / (1 + math.exp(1 / temperature))])


def test_a_low_temperature_reads_the_most_similar_unit():
    memory = CNPMemory(channels=4, num_units=3, read_temperature=1e-3)
    memory.feat_units.weight.data[:, :4] = torch.eye(4)[:3]
    unit = F.normalize(memory.feat_units.weight[1], dim=0)
    context, = memory([torch.tensor([0.1, 3, 0.2, 0]).view(1, 4, 1, 1)])
    assert torch.allclose(context.view(4), memory.mlp(unit), atol=1e-6)


def test_units_decay_if_no_location_is_written():
    memory = CNPMemory(channels=4, num_units=3, momentum=0.5)
    before = memory.feat_units.weight.detach().clone()
    memory([torch.randn(1, 4, 2, 2)], torch.zeros(1, 4, 4), torch.zeros(1, 4, dtype=torch.bool))
    assert torch.allclose(memory.feat_units.weight, 0.5 * before)


@pytest.mark.parametrize('per_level', [False, True])
def test_frozen_units_are_read_and_not_written(per_level):
    memory = CNPMemory(channels=4, num_units=3, momentum=0.5, per_level=per_level, num_levels=2)
    memory.feat_units.weight.requires_grad_(False)
    before = memory.feat_units.weight.clone()
    feats = [torch.randn(1, 4, 2, 2), torch.randn(1, 4, 1, 1)]
    contexts = memory(feats, torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool))
    assert torch.equal(memory.feat_units.weight, before)
    assert all(map(torch.equal, contexts, memory(feats)))
    contexts[0].sum().backward()
    assert memory.mlp.fc1.weight.grad is not None and memory.feat_units.weight.grad is None


def test_a_write_that_results_in_nan_is_skipped():
    memory = CNPMemory(channels=4, num_units=3)
    before = memory.feat_units.weight.detach().clone()
    feat = torch.randn(1, 4, 2, 2)
    feat[0, 1, 1, 0] = float('nan')
    memory([feat], torch.rand(1, 4, 4), torch.ones(1, 4, dtype=torch.bool))
    assert torch.equal(memory.feat_units.weight, before)


def test_autocast_computes_the_memory_in_float32():
    memory = CNPMemory(channels=8, num_units=6)
    feat = torch.randn(1, 8, 4, 4)
    with torch.autocast('cpu', torch.bfloat16):
        context, = memory([feat])
    assert context.dtype == torch.float32
    assert torch.equal(context, memory([feat])[0])


BOXES = torch.tensor([[[0.0, 0, 40, 40], [10, 10, 30, 30]]])


@pytest.mark.parametrize(('choice', 'point', 'expected', 'written'), [
    ('published', (20.0, 20.0), 1, True),  # inside both: the smaller
    ('published', (5.0, 5.0), 1, True),  # the first that does not contain it
    ('published', (90.0, 90.0), 0, True),
    ('published', (10.0, 20.0), 1, True),  # on an edge: not strictly inside
    ('inside', (20.0, 20.0), 1, True),
    ('inside', (5.0, 5.0), 0, True),
    ('inside', (90.0, 90.0), 0, False),
])
def test_selection_of_the_box_that_a_location_writes(choice, point, expected, written):
    targets, mask = write_targets(torch.tensor([point]), BOXES, torch.ones(1, 2, dtype=torch.bool), (100, 200), choice)
    assert mask.item() is written
    if written:
        x, y = point
        x1, y1, x2, y2 = BOXES[0, expected].tolist()
        ltrb = torch.tensor([(x - x1) / 200, (y - y1) / 100, (x2 - x) / 200, (y2 - y) / 100])
        assert torch.allclose(targets[0, 0], 2 * (ltrb - 0.5))


def test_images_without_objects_write_nothing():
    _, written = write_targets(torch.rand(5, 2), torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.bool), (10, 10))
    assert not written.any()


def test_unknown_options_are_user_errors():
    with pytest.raises(UserError, match='top1'):
        CNPMemory(update_mode='best')
    with pytest.raises(UserError, match="decay='none' is unknown; use one of"):
        CNPMemory(decay='none')
    with pytest.raises(UserError, match="CNPMemory per_level must be True or False, not 'maybe'"):
        CNPMemory(per_level='maybe')
    with pytest.raises(UserError, match='read_temperature must be a number above 0, not 0'):
        CNPMemory(read_temperature=0)
    with pytest.raises(UserError, match='momentum must be a number from 0 to 1, not 2'):
        CNPMemory(momentum=2)
    with pytest.raises(UserError, match='num_units must be an integer of at least 1, not 0'):
        CNPMemory(num_units=0)
    with pytest.raises(UserError, match='published'):
        write_targets(torch.rand(5, 2), BOXES, torch.ones(1, 2, dtype=torch.bool), (10, 10), 'nearest')
