# MemCNP small enough for a CPU, on easy toy videos: what `make demo` trains.
# Data: python tools/make_toy_vis.py data/toy --easy --videos 48 --val_videos 8 --frames 10
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/toy_vis.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(embed_dims=96, num_heads=4, with_cp=False, init_cfg=None),
    neck=dict(in_channels=[96, 96, 96], out_channels=64),
    bbox_head=dict(num_classes=3, in_channels=64))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=21),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.05, by_epoch=True, begin=0, end=2, T_max=2,
        convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=4)
