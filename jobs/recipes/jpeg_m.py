"""JPEG, size M: five times the work of S a pixel. It grows from S: `--init jpeg-s`.

The weights that ship were made so in 8,800 steps without `stored_share` (--seed 8, 50 minutes on two cores that other
work shared, AVX-512 with bfloat16) and 7,600 as it stands here (--init jpeg-m --learning_rate 0.002 --seed 9, 50
minutes), each followed by some of `jpeg_m_head`, at last 3,000 (6 minutes): few for a network of its size. Result, in
dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.16/31.46/32.81/33.76, and PSNR-B
28.91/31.08/32.32/33.16, where S has 29.14/31.42/32.76/33.70 and 28.89/31.04/32.26/33.09.
"""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s.RECIPE, name="jpeg_m", network=SIZES["M"])
