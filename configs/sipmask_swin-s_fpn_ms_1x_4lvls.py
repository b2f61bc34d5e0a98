# SipMask-VIS, Swin-S, FPN of four levels, YouTube-VIS.
_base_ = './sipmask_swin-s_fpn_ms_1x.py'
model = dict(
    neck=dict(num_outs=4),
    bbox_head=dict(strides=[8, 16, 32, 64], test_cfg=dict(score_thr=0.04, max_per_img=15)))
