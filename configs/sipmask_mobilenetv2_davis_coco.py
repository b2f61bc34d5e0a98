# SipMask-VIS with ImageNet's MobileNetV2, DAVIS-2016 at 240p and COCO pseudo-videos together. Minutes on one GPU.
_base_ = [
    './_base_/models/sipmask_mobilenetv2.py', './_base_/datasets/davis_240p_coco.py',
    './_base_/schedules/adamw_small_real.py', './_base_/default_runtime.py'
]
model = dict(bbox_head=dict(num_classes=8))
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
