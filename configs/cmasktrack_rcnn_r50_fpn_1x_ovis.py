# CMaskTrack R-CNN, OVIS: many objects a frame.
_base_ = './cmasktrack_rcnn_r50_fpn_1x_yvis.py'
model = dict(
    rpn_head=dict(nms_pre=1000, max_per_img=1000),
    bbox_head=dict(num_classes=25, max_per_img=100),
    mask_head=dict(num_classes=25))
data_root = 'data/OVIS/'
train_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_train.json'))
val_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_valid.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
