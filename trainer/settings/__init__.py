"""The sections of a recipe, a file each: every setting documented in place, with its bounds."""

from trainer.settings.base import Section
from trainer.settings.data import DataSettings, TaskSource
from trainer.settings.doctor import DoctorSettings
from trainer.settings.evaluation import EvalSettings
from trainer.settings.grpo import GrpoSettings
from trainer.settings.model import LORA_TARGETS, LoraSettings, ModelSettings
from trainer.settings.rollout import RolloutSettings
from trainer.settings.run import RunSettings
from trainer.settings.sft import SftSettings

__all__ = [
    "LORA_TARGETS",
    "DataSettings",
    "DoctorSettings",
    "EvalSettings",
    "GrpoSettings",
    "LoraSettings",
    "ModelSettings",
    "RolloutSettings",
    "RunSettings",
    "Section",
    "SftSettings",
    "TaskSource",
]
