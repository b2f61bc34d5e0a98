# VidEoMT, ViT-S, on OVIS.
_base_ = [
    './_base_/models/videomt.py', './_base_/datasets/videomt_ovis.py', './_base_/schedules/videomt_160k.py',
    './_base_/default_runtime.py'
]
model = dict(
    head=dict(num_classes=25),
    results=dict(max_per_video=20, direct_masks=_base_.preprocessing == 'transformers'))
train_cfg = dict(max_epochs=1053)  # 160,000 steps: 607 videos and as many clips of COCO
default_hooks = dict(checkpoint=dict(interval=8, max_keep_ckpts=3))
