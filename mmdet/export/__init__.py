"""Export of the network of a detector, frame by frame, to torch.export or ONNX, and inference with the exported file.

============================  ======================================================================================
:func:`frame_network`         the part of a detector that is exported: tensors in, tensors out, the state among them
:func:`export_network`        writes it to a file and compares the file's results with the network's
:func:`open_exported`         runs a file with torch or onnxruntime
:func:`use_exported`          makes a detector run a file instead of its own network
============================  ======================================================================================

Called by tools/export.py and :class:`mmdet.apis.VideoInferencer`; ``docs/export.md`` describes the files.
"""
from mmdet.export.comparison import TOLERANCE, Difference, compare
from mmdet.export.detectors import use_exported
from mmdet.export.exported_network import open_exported
from mmdet.export.networks import detector_name, frame_network
from mmdet.export.writing import FORMATS, export_network

__all__ = ['FORMATS', 'TOLERANCE', 'Difference', 'compare', 'detector_name', 'export_network', 'frame_network',
           'open_exported', 'use_exported']
