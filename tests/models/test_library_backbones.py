"""Backbones of timm and torchvision: maps, published weights, frozen stages, and a training step in each detector."""
from functools import cache

import pytest
import timm
import torch
import torchvision
from mmengine.model import BaseModel
from torch import nn

from mmdet.checkpoint import load_backbone_weights, load_weights
from mmdet.errors import UserError
from mmdet.models.backbones import TimmBackbone, TorchvisionBackbone
from mmdet.registry import MODELS
from tests.helpers.two_stage import annotated_frame, build_two_stage, clip, noise, plain_frames

BACKBONES = {
    'ResNet-18': dict(type='TorchvisionBackbone', name='resnet18'),
    'ResNet-50': dict(type='TimmBackbone', name='resnet50'),
    'MobileNetV2': dict(type='TorchvisionBackbone', name='mobilenet_v2'),
    'MobileNetV3': dict(type='TimmBackbone', name='mobilenetv3_small_100'),
    'EfficientNet-Lite0': dict(type='TimmBackbone', name='tf_efficientnet_lite0'),
    'ConvNeXt-T': dict(type='TorchvisionBackbone', name='convnext_tiny'),
    'Swin-T': dict(type='TimmBackbone', name='swin_tiny_patch4_window7_224'),
    'DINOv2 ViT-S': dict(type='TimmBackbone', name='vit_small_patch14_dinov2'),
}
# plain transformers of timm by name, with arguments that make them small enough for a test
SMALL_PLAIN = {
    'DINOv2': ('vit_small_patch14_reg4_dinov2', dict(depth=4, embed_dim=32, num_heads=2)),
    'DINOv3': ('vit_small_patch16_dinov3', dict(depth=4, embed_dim=64, num_heads=2)),
    'EVA-02': ('eva02_tiny_patch14_224', dict(depth=4, embed_dim=64, num_heads=2)),
    'windows as ViTDet': ('samvit_base_patch16', dict(depth=4, embed_dim=32, num_heads=2, global_attn_indexes=(1, 3))),
    'ViT of patch size 8': ('vit_small_patch8_224', dict(depth=4, embed_dim=32, num_heads=2)),
    'ViT of patch size 32': ('vit_small_patch32_224', dict(depth=4, embed_dim=32, num_heads=2)),
}


@cache
def built(name: str) -> nn.Module:
    """Build one of :data:`BACKBONES`, once: the tests of the four detectors share it."""
    torch.manual_seed(0)
    return MODELS.build(BACKBONES[name])


@MODELS.register_module(name='BuiltBackbone')
def _built_backbone(of: str) -> nn.Module:
    return built(of)


TRACKER = dict(type='AssociationTracker', similarity='dot', temperature=1.0)
LEVELS = dict(num_classes=3, in_channels=32, strides=(8, 16, 32, 64))
DENSE = {
    'MemCNP': dict(type='SipMaskMem', bbox_head=dict(type='CNPContrastHead', **LEVELS), tracker=TRACKER),
    'SipMask': dict(type='SipMask', bbox_head=dict(type='SipMaskHead', **LEVELS), tracker=TRACKER),
    'FCOS': dict(type='FCOS', bbox_head=dict(type='FCOSHead', stacked_convs=1, **LEVELS)),
}


def detector(kind: str, backbone: str) -> BaseModel:
    """Build a detector with small heads; levels are set only where a plain transformer needs it, channels never."""
    plain = getattr(built(backbone), 'is_plain', False)
    parts = dict(backbone=dict(type='BuiltBackbone', of=backbone))
    if kind == 'MaskTrack R-CNN':
        strides = [8, 16, 32, 64] if plain else [4, 8, 16, 32, 64]
        return build_two_stage(
            channels=16, **parts, roi_strides=[stride for stride in strides if stride < 64],
            neck=dict(type='FPN', out_channels=16, num_outs=len(strides), extra_levels='pool'),
            rpn_head=dict(type='RPNHead', in_channels=16, nms_pre=20, max_per_img=20, strides=strides))
    neck = dict(type='FPN', out_channels=32, num_outs=4, start_level=0 if plain else 1)
    return MODELS.build(DENSE[kind] | parts | dict(neck=neck))


@pytest.mark.parametrize('kind', ['MemCNP', 'SipMask', 'FCOS', 'MaskTrack R-CNN'])
@pytest.mark.parametrize('backbone', BACKBONES)
def test_each_detector_trains_a_step_on_each_backbone(backbone, kind):
    model = detector(kind, backbone).train()
    frames = [annotated_frame([[8, 8, 40, 50], [50, 20, 90, 60]]) for _ in range(1 if kind == 'FCOS' else 2)]
    for frame in frames:
        frame.set_metainfo(dict(frame_id=0, ori_shape=frame.img_shape, batch_input_shape=frame.img_shape))
    model.zero_grad()
    losses = model(noise(1, len(frames)), [clip(frames)], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    before = [parameter.detach().clone() for parameter in model.backbone.parameters()]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    unused = [name for name, parameter in model.backbone.named_parameters() if parameter.grad is None]
    assert not unused, 'distributed training fails if a parameter has no gradient'
    assert any(not torch.equal(old, new) for old, new in zip(before, model.backbone.parameters()))


@pytest.mark.cuda
@pytest.mark.parametrize('backbone', BACKBONES)
def test_replayed_detection_on_a_gpu_has_the_same_results(backbone):
    """MemCNP replays the detection in a frame as a CUDA graph, so the backbone must not synchronise with the host."""
    parts = dict(backbone=BACKBONES[backbone], neck=dict(type='FPN', out_channels=32, num_outs=4, start_level=1))
    if backbone == 'DINOv2 ViT-S':
        parts['neck']['start_level'] = 0
    torch.manual_seed(0)
    model = MODELS.build(DENSE['MemCNP'] | parts).cuda().eval()
    found = []
    for model.cuda_graphs in (False, True, True):  # captured, then replayed
        found.append(model(noise(1, 2).cuda(), [clip(plain_frames([0, 1]))], mode='predict')[0])
    for frames in zip(*found):
        eager, *replayed = (frame.pred_track_instances for frame in frames)
        for other in replayed:
            torch.testing.assert_close(other.bboxes, eager.bboxes, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('size', [(64, 96), (50, 71)])
def test_maps_of_any_image_size_have_the_documented_strides(name, size):
    model = built(name).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, *size))
    assert [tuple(x.shape) for x in maps] == [
        (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(model.out_channels, model.out_strides)]
    assert model.out_strides == ((8, 16, 32) if name == 'DINOv2 ViT-S' else (4, 8, 16, 32))


@pytest.mark.parametrize('case', SMALL_PLAIN)
def test_plain_transformers_have_maps_of_three_strides(case):
    name, arguments = SMALL_PLAIN[case]
    model = TimmBackbone(name, model_args=arguments, frozen_stages=2).train()
    maps = model(torch.randn(2, 3, 50, 71))
    assert [tuple(x.shape[-2:]) for x in maps] == [(7, 9), (4, 5), (2, 3)]
    sum(x.square().mean() for x in maps).backward()
    learns = {parameter for parameter, value in model.named_parameters() if value.requires_grad}
    assert learns == {parameter for parameter, value in model.named_parameters() if value.grad is not None}
    # the stem and the first two of four blocks are frozen
    assert learns and all(parameter.startswith(('net.blocks.2.', 'net.blocks.3.')) for parameter in learns)


def test_maps_of_a_plain_transformer_are_computed_as_those_of_vit():
    """With patch size 16: tokens after 2, 3 and 4 quarters of the blocks, resized by 2, 1 and ½."""
    torch.manual_seed(0)
    model = TimmBackbone('vit_small_patch16_224', model_args=dict(depth=8, embed_dim=32, num_heads=2)).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        tokens = model.net.forward_intermediates(image, indices=[3, 5, 7], intermediates_only=True)
        maps = model(image)
    for got, token_map, factor in zip(maps, tokens, (2, 1, 0.5)):
        torch.testing.assert_close(got, nn.functional.interpolate(
            token_map, scale_factor=float(factor), mode='bilinear', align_corners=False))


def test_patch_size_14_keeps_positions():
    """A linear ramp over the tokens is a linear ramp in each map: tokens are sampled at the centres of its cells."""
    model = TimmBackbone('vit_small_patch14_dinov2', model_args=dict(depth=4, embed_dim=32, num_heads=2)).eval()

    def ramp_of_tokens(image, **_):
        column = (torch.arange(image.shape[-1] // 14) + 0.5) * 14  # centre of each token in pixels
        return [column.expand(1, 1, image.shape[-2] // 14, -1)] * 3

    model.net.forward_intermediates = ramp_of_tokens
    for got, stride in zip(model(torch.zeros(1, 3, 224, 224)), (8, 16, 32)):
        centres = (torch.arange(224 // stride) + 0.5) * stride
        inner = (centres > 7) & (centres < 217)  # bilinear sampling repeats the outermost token
        torch.testing.assert_close(got[0, 0, 0][inner], centres[inner])


@pytest.mark.parametrize('name', ['mobilenetv2_100', 'swin_tiny_patch4_window7_224'])
def test_a_file_of_timm_gives_the_maps_of_timm(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name, dynamic_img_size=True) if 'swin' in name else timm.create_model(name)
    model = TimmBackbone(name, out_indices=(1, 2)).eval()
    load_backbone_weights(model, theirs.state_dict(), 'file')
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = theirs.eval().forward_intermediates(image, intermediates_only=True)[-3:-1]
        for ours, expected in zip(model(image), maps):
            assert torch.equal(ours, expected)
    # weights saved by a detector are loaded with strict keys
    copy = TimmBackbone(name, out_indices=(1, 2))
    load_weights(nn.ModuleDict(dict(backbone=copy)),
                 {f'backbone.{key}': value for key, value in model.state_dict().items()}, 'file')
    assert all(torch.equal(value, copy.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_file_of_torchvision_gives_the_maps_of_torchvision():
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    model = TorchvisionBackbone('mobilenet_v2').eval()
    load_backbone_weights(model, theirs.state_dict(), 'file')
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = model(image)
        for got, last in zip(maps, (3, 6, 13, 18)):  # the last block of each stride
            assert torch.equal(got, theirs.features[:last + 1](image))


def test_files_of_another_image_size_are_converted():
    """DINOv2's file has position embeddings of 37×37 patches, and a mask token that is used in pre-training only."""
    arguments = dict(depth=4, embed_dim=32, num_heads=2)
    theirs = timm.create_model('vit_small_patch14_dinov2', **arguments).state_dict()
    assert theirs['pos_embed'].shape == (1, 1 + 37 * 37, 32)
    model = TimmBackbone('vit_small_patch14_dinov2', model_args=arguments | dict(img_size=224))
    load_backbone_weights(model, theirs | dict(mask_token=torch.zeros(1, 32)), 'file')
    assert model.net.pos_embed.shape == (1, 1 + 16 * 16, 32)
    assert torch.equal(model.net.blocks[1].ls1.gamma, theirs['blocks.1.ls1.gamma'])


def test_unknown_keys_are_loaded_by_position_if_all_shapes_are_equal():
    theirs = timm.create_model('tf_efficientnet_lite0').state_dict()
    renamed = {f'_{key}': value for key, value in theirs.items()}
    model = TimmBackbone('tf_efficientnet_lite0')
    load_backbone_weights(model, renamed, 'file')
    assert torch.equal(model.net.blocks[3][1].conv_dw.weight, theirs['blocks.3.1.conv_dw.weight'])
    with pytest.raises(UserError, match=r'missing: net\.conv_stem\.weight'):
        load_backbone_weights(model, dict(list(renamed.items())[1:]), 'file')


@pytest.mark.parametrize(('config', 'frozen', 'free'), [
    (dict(type='TorchvisionBackbone', name='resnet18', frozen_stages=0), 'conv1', 'layer1'),
    (dict(type='TorchvisionBackbone', name='resnet18', frozen_stages=2), 'layer2', 'layer3'),
    (dict(type='TorchvisionBackbone', name='mobilenet_v2', frozen_stages=1), 'features.3.', 'features.4.'),
    (dict(type='TimmBackbone', name='mobilenetv2_100', frozen_stages=1), 'blocks.1.', 'blocks.2.'),
    (dict(type='TimmBackbone', name='resnet18', frozen_stages=0), 'conv1', 'layer1')])
def test_frozen_stages_have_no_gradient_and_stay_in_eval_mode(config, frozen, free):
    model = MODELS.build(config | dict(norm_eval=False)).train()
    learns = [name.removeprefix('net.') for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not any(name.startswith(frozen) for name in learns)
    assert any(name.startswith(free) for name in learns)
    # all parameters before the first trained one are frozen
    names = [name.removeprefix('net.') for name, _ in model.named_parameters()]
    assert learns == names[-len(learns):]
    norms = {name: module for name, module in model.net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert all(module.training == module.weight.requires_grad for module in norms.values())


@pytest.mark.parametrize('config', [dict(type='TorchvisionBackbone', name='mobilenet_v2'),
                                    dict(type='TimmBackbone', name='mobilenetv2_100')])
def test_norm_eval_keeps_running_statistics(config):
    model = MODELS.build(config).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model = MODELS.build(config | dict(norm_eval=False)).train()
    model(torch.randn(2, 3, 64, 64))
    assert any(not torch.equal(value, before[name]) for name, value in model.named_buffers() if 'running' in name)


@pytest.mark.parametrize('config', [
    dict(type='TorchvisionBackbone', name='vgg11_bn'), dict(type='TimmBackbone', name='mobilenetv2_100'),
    dict(type='TimmBackbone', name='vit_small_patch14_dinov2', model_args=dict(depth=4, embed_dim=32, num_heads=2))])
def test_activation_checkpointing_does_not_change_gradients(config):
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = MODELS.build(config | dict(with_cp=with_cp)).train()
        sum(x.square().mean() for x in model(noise(1)[..., :64, :64])).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for first, second in zip(*gradients):
        torch.testing.assert_close(first, second)


def test_published_weights_are_downloaded_by_the_library(monkeypatch):
    """With ``pretrained=True`` they are downloaded when weights are initialised, not when the model is built."""
    reference = torchvision.models.mobilenet_v2().state_dict()
    fetched = []
    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, 'get_state_dict',
                        lambda self, **kwargs: fetched.append(self.name) or dict(reference))
    model = TorchvisionBackbone('mobilenet_v2', pretrained='IMAGENET1K_V1')
    assert not fetched
    model.init_weights()
    assert fetched == ['IMAGENET1K_V1']
    assert torch.equal(model.net.features[0][0].weight, reference['features.0.0.weight'])


def test_weights_that_cannot_be_downloaded_are_a_user_error(monkeypatch):
    def no_network(*_, **__):
        raise OSError('Network is unreachable\nmore')

    monkeypatch.setattr(torchvision.models.MobileNet_V2_Weights, 'get_state_dict', no_network)
    with pytest.raises(UserError, match=r'could not be downloaded \(Network is unreachable\); set a file'):
        TorchvisionBackbone('mobilenet_v2', pretrained=True).init_weights()


def test_pretrained_may_be_a_file(tmp_path):
    theirs = torchvision.models.mobilenet_v2().state_dict()
    torch.save(theirs, tmp_path / 'mobilenet.pth')
    model = TorchvisionBackbone('mobilenet_v2', pretrained=str(tmp_path / 'mobilenet.pth'))
    model.init_weights()
    assert torch.equal(model.net.features[18][0].weight, theirs['features.18.0.weight'])


@pytest.mark.parametrize(('config', 'message'), [
    (dict(type='TimmBackbone', name='mobilnet'), r"name='mobilnet': timm .* has no such network"),
    (dict(type='TimmBackbone', name='hiera_tiny_224'), r'accepts only images of 224×224 pixels'),
    (dict(type='TimmBackbone', name='mobilenetv2_100', model_args=dict(depth=3)), r"model_args=\{'depth': 3\} are not"),
    (dict(type='TimmBackbone', name='resnet18', out_indices=(3, 4)), r'out_indices=\(3, 4\).* 3 \(stride 32\)'),
    (dict(type='TimmBackbone', name='dla34', with_cp=True), r'set with_cp=False'),
    (dict(type='TorchvisionBackbone', name='mobilenet_v9'), r'torchvision .* has no such network; it has alexnet'),
    (dict(type='TorchvisionBackbone', name='vit_b_16'), r"name='vit_base_patch16_224'"),
    (dict(type='TorchvisionBackbone', name='alexnet'), r'has only these maps: none'),
    (dict(type='TorchvisionBackbone', name='resnet18', frozen_stages=5), r'frozen_stages=5 must be from -1 to 4'),
    (dict(type='TorchvisionBackbone', name='resnet18', pretrained=True, init_cfg=dict(type='Pretrained')),
     r'set one of them')])
def test_invalid_arguments_are_user_errors(config, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], start_level=1, num_outs=4)),
     r'set model\.neck\.in_channels=None .* or \[64, 128, 256, 512\]'),
    (dict(neck=dict(type='FPN', start_level=0, num_outs=4)), r'set model\.neck\.start_level=1')])
def test_errors_of_a_mismatched_neck_contain_the_correct_value(changes, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(DENSE['MemCNP'] | dict(backbone=dict(type='BuiltBackbone', of='ResNet-18')) | changes)


def test_errors_of_mismatched_strides_of_a_two_stage_model_contain_the_correct_value():
    parts = dict(backbone=dict(type='BuiltBackbone', of='DINOv2 ViT-S'), neck=dict(type='FPN', num_outs=4))
    with pytest.raises(UserError, match=r'set model\.rpn_head\.strides=\[8, 16, 32, 64\]'):
        build_two_stage(**parts, rpn_head=dict(type='RPNHead', strides=[4, 8, 16, 32]))
    with pytest.raises(UserError, match=r'set model\.roi_strides=\[8, 16, 32, 64\]'):
        build_two_stage(**parts, rpn_head=dict(type='RPNHead', strides=[8, 16, 32, 64]))


def test_wrong_normalisation_is_a_warning():
    preprocessor = dict(type='TrackDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    backbone = dict(type='TimmBackbone', name='tf_efficientnet_lite0', pretrained='file.pth')
    neck = dict(type='FPN', out_channels=32, start_level=1, num_outs=4)
    warnings = []
    for values in (preprocessor, preprocessor | dict(mean=[127.5] * 3, std=[127.5] * 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('mmdet.models.necks.build.print_log', lambda text, *_: warnings.append(text))
            MODELS.build(DENSE['FCOS'] | dict(backbone=backbone, neck=neck, data_preprocessor=values))
    assert len(warnings) == 1
    assert 'mean [127.5, 127.5, 127.5] and std [127.5, 127.5, 127.5]' in warnings[0]
