"""TorchvisionTracker: torchvision's own results, whatever the batch; training; weights by their published names."""
import numpy as np
import pytest
import torch
import torchvision
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import nn
from torchvision.models.resnet import Bottleneck

from mmdet.checkpoint import load_model
from mmdet.errors import UserError
from mmdet.models.detectors.torchvision_tracker import coco_categories
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample

NAMES = {'maskrcnn_resnet50_fpn': 'MaskRCNN_ResNet50_FPN_Weights',
         'maskrcnn_resnet50_fpn_v2': 'MaskRCNN_ResNet50_FPN_V2_Weights'}
# what images are resized to, proposals, objects: few, so that a test is fast
SIZES = dict(min_size=96, max_size=160)
FEW = dict(rpn_post_nms_top_n_test=60, box_detections_per_img=20)
IMAGE = (60, 88)
PREPROCESSOR = dict(type='TrackDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True,
                    pad_size_divisor=1)
TRACKER = dict(type='AssociationTracker', assignment='greedy')


def config(name: str, **kwargs) -> dict:
    return dict(type='TorchvisionTracker', name=name, tracker=TRACKER, data_preprocessor=PREPROCESSOR,
                net_args=FEW) | SIZES | kwargs


@pytest.fixture(scope='module')
def published() -> dict[str, dict]:
    """Random weights under the names and with the shapes of torchvision's files, which find something in noise."""
    found = {}
    for name in NAMES:
        torch.manual_seed(0)
        model = MODELS.build(config(name)).net.eval()
        for block in model.backbone.body.modules():  # else random residuals grow from block to block
            if isinstance(block, Bottleneck):
                block.bn3.weight.data.fill_(0.2)
        nn.init.normal_(model.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.5)
        classifier, lengths = model.roi_heads.box_predictor.cls_score, []
        hook = classifier.register_forward_hook(lambda _, inputs, __, to=lengths: to.append(inputs[0].norm(dim=1)))
        with torch.no_grad():
            model([clip(1)['inputs'][0][0].flip(0).float() / 255])
        hook.remove()
        nn.init.normal_(classifier.weight, std=2 / lengths[0].mean().item())  # several classes of each box above .05
        found[name] = model.state_dict()
    return found


def theirs(name: str, weights: dict, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The model that torchvision makes when it downloads its weights."""
    enum = getattr(torchvision.models.detection, NAMES[name])
    monkeypatch.setattr(enum, 'get_state_dict', lambda self, **_: weights)
    return getattr(torchvision.models.detection, name)(weights=enum.COCO_V1, **SIZES, **FEW).eval()


def ours(name: str, weights: dict) -> nn.Module:
    model = MODELS.build(config(name))
    load_model(model, 'published.pth', dict(weights))
    return model.eval()


def clip(count: int, first: int = 0, seed: int = 0) -> dict:
    """A collated clip of noise whose frames resemble each other."""
    rng = np.random.default_rng(seed)
    base, drift = rng.integers(0, 200, (2, *IMAGE, 3))
    frames = np.stack([np.clip(base + 0.1 * index * drift, 0, 255) for index in range(first, first + count)])
    sample = TrackDataSample()
    sample.video_data_samples = [
        DetDataSample(metainfo=dict(frame_id=index, video_id=1, img_shape=IMAGE, ori_shape=IMAGE, scale_factor=1.0))
        for index in range(first, first + count)]
    return dict(inputs=[torch.from_numpy(frames.astype(np.uint8)).permute(0, 3, 1, 2)], data_samples=[sample])


def results(model: nn.Module, data: dict, **kwargs) -> list[InstanceData]:
    return [frame.pred_track_instances for frame in model.test_step(data | kwargs)[0]]


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_boxes_scores_and_masks_equal_torchvisions(name, published, monkeypatch):
    data = clip(2)
    reference, model = theirs(name, published[name], monkeypatch), ours(name, published[name])
    label_of = {ident: label for label, ident in enumerate(coco_categories()[0])}
    with torch.no_grad():
        answers = reference([image.flip(0).float() / 255 for image in data['inputs'][0]])  # RGB in [0, 1]
    for expected, found in zip(answers, results(model, data)):
        named = torch.tensor([index in label_of for index in expected['labels'].tolist()])
        expected = {key: value[named] for key, value in expected.items()}
        assert len(found) == named.sum() > 5
        torch.testing.assert_close(found.bboxes, expected['boxes'], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.scores, expected['scores'], rtol=1e-5, atol=1e-5)
        assert found.labels.tolist() == [label_of[index] for index in expected['labels'].tolist()]
        masks = torch.from_numpy(coco_mask.decode(found.masks)).permute(2, 0, 1).bool()
        differing = masks != (expected['masks'][:, 0] > 0.5)
        # only pixels whose probability is the threshold but for rounding
        assert (expected['masks'][:, 0][differing] - 0.5).abs().max().item() < 1e-5 if differing.any() else True
        assert 0 < masks.float().mean() < 1


@pytest.mark.slow
def test_clips_give_the_results_of_frames_and_ids_persist(published):
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    together = results(model, clip(3))
    stream = model.new_stream()
    alone = [results(model, clip(1, first), streams=[stream])[0] for first in range(3)]
    for batched, single in zip(together, alone):
        torch.testing.assert_close(batched.bboxes, single.bboxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(batched.scores, single.scores, rtol=1e-4, atol=1e-5)
        assert batched.labels.tolist() == single.labels.tolist()
        assert batched.instances_id.tolist() == single.instances_id.tolist()
        assert coco_mask.area(batched.masks) == pytest.approx(coco_mask.area(single.masks), abs=2)
    first, second = (set(found.instances_id.tolist()) for found in together[:2])
    assert len(first & second) > len(second) / 4  # noise, but the same noise
    assert not hasattr(together[0], 'embeddings')


@pytest.mark.usefixtures('recorded_graphs')
def test_a_graph_of_the_backbone_does_not_change_the_results(published, device):
    """The third clip replays the graph that the second one captured."""
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn']).to(device)
    for model.cuda_graphs, seed in [(True, 0), (True, 1), (True, 2), (False, 2)]:
        found = results(model, clip(1, seed=seed))[0]
        if (model.cuda_graphs, seed) == (True, 2):
            replayed = found
    assert len(model._graphs._graphs) == 1 and len(found) > 5
    torch.testing.assert_close(replayed.bboxes, found.bboxes, rtol=1e-4, atol=1e-3)
    assert replayed.labels.tolist() == found.labels.tolist()
    model.train()
    assert not model._graphs._graphs


def test_results_are_in_pixels_of_the_original_image(published):
    """A pipeline that halves the image: boxes and masks still cover the original."""
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    data = clip(1)
    plain = results(model, data)[0]
    double = tuple(2 * side for side in IMAGE)
    data['data_samples'][0][0].set_metainfo(dict(ori_shape=double, scale_factor=0.5))
    scaled = results(model, data)[0]
    torch.testing.assert_close(scaled.bboxes, 2 * plain.bboxes)
    assert all(mask['size'] == list(double) for mask in scaled.masks)


def test_results_in_mixed_precision_have_the_same_format(published):
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    with torch.autocast('cpu', torch.bfloat16):
        found = results(model, clip(1))[0]
    assert len(found) > 5
    assert found.bboxes.dtype == found.scores.dtype == torch.float32


@pytest.mark.cuda
def test_results_of_a_gpu_with_masks_encoded_there(published, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    expected = results(model, clip(2))
    found = results(model.cuda(), clip(2))
    for on_gpu, on_cpu in zip(found, expected):
        assert on_gpu.bboxes.device.type == 'cpu' and len(on_gpu) == len(on_cpu)
        torch.testing.assert_close(on_gpu.scores, on_cpu.scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(on_gpu.bboxes, on_cpu.bboxes, rtol=1e-3, atol=1e-1)
        assert coco_mask.area(on_gpu.masks).sum() == pytest.approx(coco_mask.area(on_cpu.masks).sum(), rel=0.02)
    with torch.autocast('cuda', torch.bfloat16):
        assert len(results(model, clip(1))[0]) > 5


def test_frames_of_different_size_are_not_batched(published):
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    small = clip(1, seed=1)
    small['inputs'][0] = small['inputs'][0][..., :50, :70].contiguous()
    small['data_samples'][0][0].set_metainfo(dict(img_shape=(50, 70), ori_shape=(50, 70), video_id=2))
    both = {key: clip(1)[key] + small[key] for key in ('inputs', 'data_samples')}
    found = model.test_step(both)
    torch.testing.assert_close(found[1][0].pred_track_instances.bboxes, results(model, small)[0].bboxes)


def test_without_detections_the_result_is_empty():
    torch.manual_seed(0)
    model = MODELS.build(config('maskrcnn_resnet50_fpn')).eval()
    nn.init.zeros_(model.net.roi_heads.box_predictor.cls_score.weight)  # 91 classes of the same probability, below .05
    found, = results(model, clip(1))
    assert len(found) == 0
    assert found.bboxes.shape == (0, 4) and found.masks == [] and found.instances_id.shape == (0,)


@pytest.mark.slow
def test_a_training_step_with_custom_classes():
    torch.manual_seed(0)
    model = MODELS.build(config('maskrcnn_resnet50_fpn', num_classes=3)).train()
    data = clip(2)
    for frame in data['data_samples'][0]:
        masks = torch.zeros(2, *IMAGE, dtype=torch.uint8)
        masks[0, 10:40, 10:50] = masks[1, 5:20, 60:80] = 1
        frame.gt_instances = InstanceData(bboxes=np.array([[10, 10, 49, 39], [60, 5, 79, 19]], np.float32),
                                          labels=np.array([0, 2]), instances_id=np.array([1, 2]), masks=masks)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert {name: bool(torch.isfinite(value)) for name, value in losses.items()} == dict.fromkeys(
        ['loss_classifier', 'loss_box_reg', 'loss_mask', 'loss_objectness', 'loss_rpn_box_reg'], True)
    sum(losses.values()).backward()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert all(name.startswith(('net.backbone.body.conv1', 'net.backbone.body.layer1')) for name in frozen) and frozen
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_coco_labels_are_the_eighty_categories_in_order():
    ids, names = coco_categories()
    assert len(ids) == len(names) == 80
    assert (ids[0], names[0], ids[11], names[11], ids[79], names[79]) == (
        1, 'person', 13, 'stop sign', 90, 'toothbrush')
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(ids)


def test_input_size_can_be_limited(published):
    model = ours('maskrcnn_resnet50_fpn', published['maskrcnn_resnet50_fpn'])
    model.limit_input_size(64)
    resized, _ = model.net.transform([torch.zeros(3, *IMAGE)])
    assert max(resized.image_sizes[0]) <= 64


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(name='maskrcnn_r50'), r"name='maskrcnn_r50' is unknown; use one of maskrcnn_resnet50_fpn, "),
    (dict(data_preprocessor=dict(type='TrackDataPreprocessor')), r'set model\.data_preprocessor=dict\('),
    (dict(net_args=dict(box_thresh=0.3)), r"net_args has 'box_thresh', .* box_score_thresh"),
    (dict(tracker=dict(type='AssociationTracker', assignment='none')), r"assignment='none' is unknown; use one of")])
def test_invalid_arguments_are_user_errors(changes, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(config('maskrcnn_resnet50_fpn') | changes)
