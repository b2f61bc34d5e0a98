"""The fast ways to make and select instances give what ``InstanceData`` gives."""
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.structures.instances import add_metainfo, copy_sample, make_instances, select_instances

FIELDS = dict(bboxes=torch.arange(12.).view(3, 4), labels=torch.tensor([4, 5, 6]),
              embeddings=torch.ones(3, 2, dtype=torch.bfloat16), masks=['a', 'b', 'c'])


def as_lists(instances):
    return {name: value if isinstance(value, list) else (value.dtype, value.tolist())
            for name, value in instances.items()}


@pytest.mark.parametrize('fields', [FIELDS, {}, dict(scores=torch.zeros(0), masks=[])])
def test_instances_are_made_as_by_their_class(fields):
    made, expected = make_instances(fields), InstanceData(**fields)
    assert type(made) is InstanceData and len(made) == len(expected)
    assert as_lists(made) == as_lists(expected)
    made.instances_id = torch.zeros(len(made), dtype=torch.long)
    assert 'instances_id' in made


@pytest.mark.parametrize('rows', [[2, 0], [1], [0, 1, 2], []])
def test_rows_are_selected_as_by_their_class(rows):
    instances = InstanceData(metainfo=dict(frame=7), **FIELDS)
    chosen, expected = select_instances(instances, rows), instances[torch.tensor(rows, dtype=torch.long)]
    assert as_lists(chosen) == as_lists(expected)
    assert chosen.frame == 7 and len(chosen) == len(rows)
    chosen.bboxes.fill_(-1.)
    assert instances.bboxes.min() == 0


def test_metainfo_is_added_as_by_the_class():
    sample, expected = InstanceData(metainfo=dict(time=None)), InstanceData(metainfo=dict(time=None))
    added = dict(time=0.5, ori_shape=(3, 4))
    add_metainfo(sample, added)
    expected.set_metainfo(added)
    assert sample.metainfo == expected.metainfo == added
    sample.scores = torch.zeros(2)
    with pytest.raises(AttributeError, match='scores'):
        add_metainfo(sample, dict(scores=1))


def test_a_copied_sample_has_the_same_content_and_can_be_changed():
    instances = InstanceData(metainfo=dict(frame=7), **FIELDS)
    copy = copy_sample(instances)
    assert type(copy) is InstanceData and copy.metainfo == instances.metainfo and as_lists(copy) == as_lists(instances)
    copy.labels = torch.zeros(3)
    add_metainfo(copy, dict(frame=8))
    assert instances.labels.tolist() == [4, 5, 6] and instances.frame == 7
