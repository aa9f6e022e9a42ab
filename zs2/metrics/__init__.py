"""Measures of clips, one subject a file. A still clip wins every measure of coherence, so each says
something only beside `motion`.

    differences   what changes from frame to frame, and how
    structure     SSIM and MS-SSIM
    flow          optical flow, and what it does not explain
    clip          what a CLIP model sees: score, consistency
    normal        whether noise is N(0, I)
    figures       all of a clip's, by name

Frames are uint8 [F, H, W, 3]. Nothing but torch is needed.
"""
