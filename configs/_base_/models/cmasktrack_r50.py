# CMaskTrack R-CNN: MaskTrack R-CNN whose box and mask heads also use calibrated features of neighbouring frames.
_base_ = ['./masktrack_r50.py']
model = dict(
    type='CMaskTrackRCNN',
    window=5,
    rpn_head=dict(sampler=dict(num=256)),
    track_head=dict(type='CalibratedTrackHead', patch_size=16, dilation_patch=2, detach_ref=False),
    sampler=dict(num=512))
