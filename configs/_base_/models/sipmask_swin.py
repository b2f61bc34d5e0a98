# SipMask-VIS with a Swin-S backbone and FPN of five levels.
# Swin-T: depths=(2, 2, 6, 2); B: embed_dims=128, num_heads=(4, 8, 16, 32); L: 192, (6, 12, 24, 48); neck.in_channels
# are embed_dims times 1, 2, 4, 8.
_base_ = './sipmask_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=(2, 2, 18, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/swin_small_patch4_window7_224.pth')),
    neck=dict(in_channels=[96, 192, 384, 768], start_level=1))
