"""Former path of `raysplit.models.cutting.split`, kept for one release; `raysplit` exports `trace`, `leaf`, `merge`."""

from raysplit.models.cutting.split import CutPoint as CutPoint
from raysplit.models.cutting.split import TracedModel as TracedModel
from raysplit.models.cutting.split import leaf as leaf
from raysplit.models.cutting.split import merge as merge
from raysplit.models.cutting.split import trace as trace
