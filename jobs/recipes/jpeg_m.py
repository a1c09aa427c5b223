"""JPEG, size M: five times the work of S a pixel. It grows from S: `--init jpeg-s`."""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s.RECIPE, name="jpeg_m", network=SIZES["M"])
