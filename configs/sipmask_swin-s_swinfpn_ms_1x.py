# SipMask-VIS, Swin-S, a pyramid of Swin blocks with strides 8 to 128, YouTube-VIS.
_base_ = './sipmask_swin-s_fpn_ms_1x.py'
model = dict(
    neck=dict(
        _delete_=True,
        type='SwinFPN',
        in_channels=[96, 192, 384, 768],
        out_channels=256,
        start_level=1,
        depths=(2, 2, 2),
        num_heads=(24, 12, 6)))
