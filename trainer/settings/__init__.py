"""The sections of a recipe, a file each: every setting documented in place, with its bounds."""

from trainer.settings.base import Section
from trainer.settings.curriculum import CurriculumSettings
from trainer.settings.data import DataSettings, TaskSource
from trainer.settings.doctor import DoctorSettings
from trainer.settings.evaluation import EvalSettings, EvalSource
from trainer.settings.grpo import GrpoSettings
from trainer.settings.model import LORA_TARGETS, LoraSettings, ModelSettings
from trainer.settings.output import OutputSettings
from trainer.settings.ppo import PpoSettings
from trainer.settings.preference import DpoSettings, KtoSettings, PreferenceSettings
from trainer.settings.rollout import RolloutSettings
from trainer.settings.run import RunSettings
from trainer.settings.sft import SftSettings

__all__ = [
    "LORA_TARGETS",
    "CurriculumSettings",
    "DataSettings",
    "DoctorSettings",
    "DpoSettings",
    "EvalSettings",
    "EvalSource",
    "GrpoSettings",
    "KtoSettings",
    "LoraSettings",
    "ModelSettings",
    "OutputSettings",
    "PpoSettings",
    "PreferenceSettings",
    "RolloutSettings",
    "RunSettings",
    "Section",
    "SftSettings",
    "TaskSource",
]
