"""The exported page in a real browser: what a model or an environment wrote stays text, and our own script works.

Without a Chromium on PATH these are skipped: the escaping itself is tested in tests/unit/store/test_export_html.py.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess

import pytest
from episode_samples import sample_episode

from envs.types import Observation
from rollout_server.export_html import episode_to_html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")

ATTACK = (
    "<script>document.documentElement.dataset.owned='script'</script>"
    "<img src=x onerror=\"document.documentElement.dataset.owned='img'\">"
    "</pre></section></main><svg onload=\"document.documentElement.dataset.owned='svg'\">%%script%%"
)


def dom(page, folder):
    """The document as the browser has it after running the page."""
    path = folder / "episode.html"
    path.write_text(page, encoding="utf-8")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    flags = ["--headless", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    ran = subprocess.run(
        [CHROMIUM, *flags, *sandbox, path.as_uri()], check=True, capture_output=True, text=True, timeout=120
    )
    return ran.stdout


def attacked():
    first, last = sample_episode().turns
    step = dataclasses.replace(first.steps[0], observation=Observation(ATTACK, (ATTACK,)))
    turn = dataclasses.replace(first, steps=(step,), text=ATTACK, reply=ATTACK + " again", policy=ATTACK)
    return sample_episode(turns=(turn, last), error=ATTACK, initial=Observation(ATTACK), metadata={"run": ATTACK})


def test_a_script_in_an_observation_is_inert_and_ours_runs(tmp_path):
    document = dom(episode_to_html(attacked()), tmp_path)
    root = re.search(r"<html[^>]*>", document)[0]
    assert 'data-ready="yes"' in root
    assert "data-owned" not in root
    assert document.count("<script") == 1
    assert "<img" not in document
    assert "<svg" not in document
    assert "&lt;script&gt;document.documentElement.dataset.owned" in document


def test_the_policy_of_the_page_stops_what_escaping_would_let_through(tmp_path):
    page = episode_to_html(sample_episode()).replace("<main>", f"<main>{ATTACK}")
    root = re.search(r"<html[^>]*>", dom(page, tmp_path))[0]
    assert 'data-ready="yes"' in root
    assert "data-owned" not in root
