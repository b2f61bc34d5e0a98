# FCOS as first published, COCO. 4 images on each of 4 GPUs.
_base_ = [
    './_base_/models/fcos_r50.py', './_base_/datasets/coco.py', './_base_/schedules/sgd_1x_fcos.py',
    './_base_/default_runtime.py'
]
