# torchvision's Mask R-CNN (maskrcnn_resnet50_fpn) as an online tracker of COCO's 80 categories. No training needed:
# python test_video.py configs/maskrcnn_r50_fpn_coco.py maskrcnn_resnet50_fpn_coco
_base_ = [
    './_base_/models/maskrcnn_torchvision.py', './_base_/datasets/coco_videos.py',
    './_base_/schedules/sgd_1x_two_stage.py', './_base_/default_runtime.py'
]
