"""The score room: from explanations to judgements, and from judgements to scores by SQL."""

from lakeinterp.score.run import finish_hookpoint, score, score_unit
from lakeinterp.score.scorer import Judgement, Scorer, ScoringTask, ToJudge

__all__ = [
    "Judgement",
    "Scorer",
    "ScoringTask",
    "ToJudge",
    "finish_hookpoint",
    "score",
    "score_unit",
]
