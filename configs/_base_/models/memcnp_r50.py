# MemCNP with a ResNet-50 backbone: five pyramid levels, of which the head uses the first four. All batch norms are
# frozen: running statistics and affine parameters.
_base_ = ['./memcnp_vit.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        style='caffe',
        frozen_stages=1,
        norm_eval=True,
        norm_requires_grad=False,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50_caffe.pth')),
    neck=dict(in_channels=[256, 512, 1024, 2048], start_level=1, num_outs=5),
    bbox_head=dict(test_cfg=dict(score_thr=0.03)))
