"""JPEG, size M: the head alone, as `jpeg_s_head` trains that of S."""

import dataclasses

from jobs.recipes import jpeg_s_head
from model.size import SIZES

RECIPE = dataclasses.replace(jpeg_s_head.RECIPE, name="jpeg_m_head", network=SIZES["M"])
