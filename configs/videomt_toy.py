# VidEoMT small enough for a CPU, from random weights, on easy toy videos.
# Data: python tools/make_toy_vis.py data/toy --easy --videos 48 --val_videos 8 --frames 10
_base_ = [
    './_base_/models/videomt.py', './_base_/datasets/toy_vis.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        embed_dims=96, depth=6, num_heads=3, query_blocks=2, image_size=256, layer_scale=0.1, init_cfg=None),
    head=dict(num_classes=3, num_queries=20),
    criterion=dict(num_points=1024))
train_dataloader = dict(batch_size=4, dataset=dict(train_clip_len=3))
train_cfg = dict(max_epochs=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=21),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.05, by_epoch=True, begin=0, end=20, T_max=20,
        convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=4)
