"""What generated DB Bench tasks are about."""

from __future__ import annotations

from envs.dbbench.domain_business import BUSINESS
from envs.dbbench.domain_culture import CULTURE
from envs.dbbench.domain_kinds import Domain
from envs.dbbench.domain_places import PLACES

__all__ = ["DOMAINS"]

DOMAINS: tuple[Domain, ...] = (*CULTURE, *BUSINESS, *PLACES)
"""All domains, in an order that is part of the tasks: another order makes other tasks."""
