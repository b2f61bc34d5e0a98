# SipMask-VIS, ResNet-50, OVIS. The head uses the first four of five levels. As published, the backbone is caffe style
# with the normalisation of the pytorch style.
_base_ = './sipmask_r50_fpn_gn_ms_1x.py'
# the fifth level is in the checkpoints, but is not trained
find_unused_parameters = True
model = dict(
    backbone=dict(style='caffe', init_cfg=dict(checkpoint='data/weights/resnet50_caffe.pth')),
    bbox_head=dict(num_classes=25, strides=[8, 16, 32, 64], test_cfg=dict(max_per_img=15)))
data_root = 'data/OVIS/'
train_dataloader = dict(
    batch_size=8, dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_train.json'))
val_dataloader = dict(
    dataset=dict(type='OVISDataset', data_root=data_root, ann_file='annotations/annotations_valid.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/annotations_valid.json')
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=32)
