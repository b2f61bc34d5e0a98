# SipMask-VIS, Swin-L (ImageNet-22k weights), FPN of four levels, YouTube-VIS, tested at 960×480. 2 pairs on each of
# 4 GPUs.
_base_ = [
    './_base_/models/sipmask_swin.py', './_base_/datasets/yvis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        embed_dims=192,
        num_heads=(6, 12, 24, 48),
        window_size=12,
        with_cp=True,
        init_cfg=dict(checkpoint='data/weights/swin_large_patch4_window12_384_22k.pth')),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=4),
    bbox_head=dict(strides=[8, 16, 32, 64], test_cfg=dict(score_thr=0.02)))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=8)
