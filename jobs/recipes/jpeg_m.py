"""JPEG, size M: five times the work of S a pixel. It grows from S: `--init jpeg-s`. Not trained in this shape yet.

As it was before, with few rectifiers, it came to 29.20/31.50/32.85/33.80 dB at quality 10/20/30/40 on BSDS500 test by
49,900 steps (326 minutes), which S surpasses now; that model no longer ships.
"""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s.RECIPE, name="jpeg_m", network=SIZES["M"])
