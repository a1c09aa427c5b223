"""JPEG, size M: five times the work of S a pixel. It grows from S: `--init jpeg-s`.

The weights that ship were made so, on two cores that other work shared (AVX-512 with bfloat16): 8,800 steps without
`stored_share` (--seed 8, 50 minutes), 7,600 with it (--init jpeg-m --learning_rate 0.002 --seed 9, 50 minutes), and
`projected`, with 0.03 for the edges of blocks, 8,000 (--seed 10, 58 minutes), 14,500 (--seed 11, 88 minutes) and
11,000 (--seed 13, 75 minutes), each followed by some of `jpeg_m_head`, at last 7,000 (14 minutes): few for a network
of its size.
Result, in dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.20/31.50/32.85/33.80, and
PSNR-B 28.98/31.12/32.38/33.23, where S has 29.16/31.44/32.79/33.74 and 28.88/30.94/32.17/32.99.
"""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s.RECIPE, name="jpeg_m", network=SIZES["M"])
