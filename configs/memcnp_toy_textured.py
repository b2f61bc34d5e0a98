# MemCNP with a small ViT on textured toy videos: six shapes, moving background, mutual occlusion. A few minutes on one
# GPU.
# Data: python tools/make_toy_vis.py data/toy_textured --videos 120 --val-videos 8 --frames 20 --size 640x360
_base_ = './memcnp_toy.py'
data_root = 'data/toy_textured/'
model = dict(
    backbone=dict(embed_dims=192),
    neck=dict(in_channels=[192, 192, 192], out_channels=128),
    bbox_head=dict(num_classes=6, in_channels=128))
train_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='LoadTrackAnnotations'),
    dict(type='ResizeClip', scale=(480, 270)),
    dict(type='RandomFlipClip', prob=0.5),
    dict(type='PackTrackInputs')
]
test_pipeline = [
    dict(type='LoadTrackFrames'),
    dict(type='ResizeClip', scale=(480, 270)),
    dict(type='PackTrackInputs')
]
train_dataloader = dict(
    batch_size=8, num_workers=14, pin_memory=True, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=14, pin_memory=True, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_valid.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=6)
optim_wrapper = dict(optimizer=dict(lr=4e-4, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=101),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.05, by_epoch=True, begin=0, end=6, T_max=6,
        convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=50))
