# FCOS with its authors' later improvements: centre sampling, centerness from the box tower, normalised distances, GIoU.
_base_ = './fcos_r50_caffe_fpn_gn_1x.py'
model = dict(bbox_head=dict(center_radius=1.5, centerness_on_reg=True, norm_on_bbox=True, box_loss='giou'))
