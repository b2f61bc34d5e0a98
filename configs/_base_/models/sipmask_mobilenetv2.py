# SipMask-VIS with the backbone and the widths of memcnp_mobilenetv2.py.
_base_ = './sipmask_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='TorchvisionBackbone',
        name='mobilenet_v2',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mobilenet_v2-b0353104.pth')),
    neck=dict(in_channels=None, start_level=1, out_channels=128, num_outs=4),
    bbox_head=dict(in_channels=128, strides=[8, 16, 32, 64]))
