"""Conversion of torchvision's Mask R-CNN: equal detections where the conventions allow, and a start of a training."""
import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn
from torchvision.models.resnet import Bottleneck

from mmdet.apis import init_model, load_config
from mmdet.checkpoint import load_initial_weights, read_checkpoint
from mmdet.errors import UserError
from mmdet.models.detectors.torchvision_tracker import TorchvisionTracker, coco_categories, current_names
from mmdet.registry import MODELS
from tests.helpers.two_stage import clip, plain_frames
from tools.model_converters.torchvision2masktrack import convert, main

CONFIG = 'configs/masktrack_rcnn_r50_fpn_1x_yvis.py'
FEW = dict(rpn_pre_nms_top_n_test=50, rpn_post_nms_top_n_test=50, box_detections_per_img=20)
IMAGE = (64, 96)


@pytest.fixture(scope='module')
def theirs() -> TorchvisionTracker:
    """torchvision's network with random weights that find several classes, and none of those without a name."""
    torch.manual_seed(0)
    model = MODELS.build(dict(type='TorchvisionTracker', name='maskrcnn_resnet50_fpn', net_args=FEW, min_size=64,
                              max_size=96, tracker=dict(type='AssociationTracker'))).eval()
    for name, buffer in model.net.backbone.body.named_buffers():
        if name.endswith('running_var'):
            buffer.uniform_(0.5, 2)
    for block in model.net.backbone.body.modules():
        if isinstance(block, Bottleneck):
            block.bn3.weight.fill_(0.2)
    predictor = model.net.roi_heads.box_predictor
    lengths = []
    hook = predictor.cls_score.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].norm(dim=1)))
    with torch.no_grad():
        model.net([torch.rand(3, *IMAGE)])
        hook.remove()
        nn.init.normal_(predictor.cls_score.weight, std=2 / lengths[0].mean().item())
        unnamed = sorted(set(range(1, 91)) - set(coco_categories()[0]))
        predictor.cls_score.bias[unnamed] = -50
    return model


def former_names(weights: dict) -> dict:
    """The names in the file of 2019."""
    renamed = {}
    for name, value in weights.items():
        for part in ('inner', 'layer'):
            if name.startswith(f'backbone.fpn.{part}_blocks'):
                name = name.replace('.0.weight', '.weight').replace('.0.bias', '.bias') if name.count('.0.') else name
        name = name.replace('rpn.head.conv.0.0', 'rpn.head.conv')
        for number in range(4):
            name = name.replace(f'mask_head.{number}.0', f'mask_head.mask_fcn{number + 1}')
        renamed[name] = value
    return renamed


def test_boxes_scores_and_labels_are_equal(theirs, tmp_path):
    torch.save(theirs.net.state_dict(), tmp_path / 'theirs.pth')
    assert main([CONFIG, str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')]) == 0
    cfg = load_config(CONFIG, [
        ('model.roi_aligned', 'False'), ('model.rpn_head.nms_pre', '50'), ('model.rpn_head.max_per_img', '50'),
        ('model.bbox_head.max_per_img', '20'), ('model.bbox_head.num_classes', '80'),
        ('model.mask_head.num_classes', '80')])
    model = init_model(cfg, tmp_path / 'ours.pth', 'cpu')
    image = torch.rand(3, *IMAGE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, = theirs.net([image])
        transform = theirs.net.transform
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.image_mean, transform.image_std))
        frames = clip([_frame()])
        found: InstanceData = next(iter(model.detect(((image - mean) / std)[None, None], [frames])))[0]
    label_of = {ident: label for label, ident in enumerate(coco_categories()[0])}
    assert len(found) == len(expected['boxes']) > 5
    torch.testing.assert_close(found.bboxes, expected['boxes'], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.scores, expected['scores'], rtol=1e-4, atol=1e-5)
    assert found.labels.tolist() == [label_of[index] for index in expected['labels'].tolist()]


def _frame():
    frame, = plain_frames([0])
    frame.set_metainfo(dict(ori_shape=IMAGE, scale_factor=1.0))
    return frame


def test_a_training_of_other_classes_starts_from_it(theirs, tmp_path):
    torch.save(former_names(theirs.net.state_dict()), tmp_path / 'theirs.pth')
    main(['configs/cmasktrack_rcnn_r50_fpn_1x_yvis.py', str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')])
    assert read_checkpoint(tmp_path / 'ours.pth')['meta']['dataset_meta']['classes'] == coco_categories()[1]
    model = init_model('configs/cmasktrack_rcnn_r50_fpn_1x_yvis.py', device='cpu')
    classes = ['dog', 'person', *(f'other {number}' for number in range(38))]
    load_initial_weights(model, tmp_path / 'ours.pth', classes=classes)
    scores = theirs.net.roi_heads.box_predictor.cls_score.weight
    assert torch.equal(model.bbox_head.fc_cls.weight[1:3], scores[[18, 1]])  # COCO's ids of dog and person
    assert torch.equal(model.track_head.fcs[0].weight, theirs.net.roi_heads.box_head.fc6.weight)


def test_former_names_are_those_of_today(theirs):
    weights = theirs.net.state_dict()
    former = former_names(weights)
    assert {'backbone.fpn.inner_blocks.0.weight', 'rpn.head.conv.weight',
            'roi_heads.mask_head.mask_fcn4.bias'} <= set(former)
    assert list(current_names(former)) == list(current_names(weights)) == list(weights)
    # what the file of 2019 has besides: counters that frozen batch norms lack
    counters = {f'{name.removesuffix("running_var")}num_batches_tracked': torch.tensor(0)
                for name in former if name.endswith('running_var')}
    assert set(theirs.convert_weights(former | counters)) == set(theirs.state_dict())


def test_weights_of_the_second_version_do_not_fit():
    model = MODELS.build(dict(type='TorchvisionTracker', name='maskrcnn_resnet50_fpn_v2',
                              tracker=dict(type='AssociationTracker')))
    with pytest.raises(UserError, match=r'file\.pth: is not torchvision.s maskrcnn_resnet50_fpn .* take maskrcnn_'):
        convert(model.net.state_dict(), 'file.pth')


def test_configs_of_other_models_are_refused(tmp_path):
    with pytest.raises(UserError, match=r'is a config of SipMaskMem; give one of MaskTrackRCNN or CMaskTrackRCNN'):
        main(['configs/memcnp_toy.py', 'maskrcnn_resnet50_fpn_coco', str(tmp_path / 'x.pth')])
