# FCOS with the improvements, ViT-B (MAE), COCO. 4 images on each of 4 GPUs.
_base_ = [
    './_base_/models/fcos_vit.py', './_base_/datasets/coco.py', './_base_/schedules/sgd_1x_fcos.py',
    './_base_/default_runtime.py'
]
model = dict(bbox_head=dict(center_radius=1.5, centerness_on_reg=True, norm_on_bbox=True, box_loss='giou'))
