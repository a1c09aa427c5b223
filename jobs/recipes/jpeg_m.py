"""JPEG, size M: five times the work of S a pixel. It grows from S: `--init jpeg-s`.

The weights that ship were made so in 8,800 steps (--seed 8, 50 minutes on two cores that other work shared, AVX-512
with bfloat16), and 2,500 of `jpeg_m_head` (5 minutes): few for a network of its size. Result, in dB at quality
10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.16/31.45/32.80/33.75, and PSNR-B 28.91/31.11/32.35/33.23,
where S has 29.13/31.41/32.76/33.70 and 28.87/31.03/32.26/33.14.
"""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s.RECIPE, name="jpeg_m", network=SIZES["M"])
