"""The page holds the whole episode, escaped, and asks nobody for anything."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest
from episode_samples import sample_episode

from envs.errors import ConfigError
from envs.types import Observation
from rollout_server.export_html import episode_to_html, find_tokenizer
from rollout_server.tokenizer import ByteTokenizer, HFTokenizer


class Parts(HTMLParser):
    """Every element with its attributes, and the text outside style and script."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.raw = [], [], {}
        self._in = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = tag if tag in ("style", "script") else self._in

    def handle_endtag(self, tag):
        self._in = None if tag == self._in else self._in

    def handle_data(self, data):
        if self._in:
            self.raw[self._in] = self.raw.get(self._in, "") + data
        else:
            self.texts.append(data)


def played_in_bytes():
    """The sample with token ids of the byte tokenizer."""
    return played_with(ByteTokenizer())


def played_with(tokenizer):
    """The sample with token ids of this tokenizer."""

    def encode(turn):
        ids = (*tokenizer.encode(turn.text, markup=False), tokenizer.end_of_turn_id)
        return dataclasses.replace(turn, completion_ids=ids, logprobs=(-3.0,) * (len(ids) - 1) + (-math.inf,))

    return sample_episode(turns=tuple(map(encode, sample_episode().turns)))


def test_everything_that_was_said_is_on_the_page():
    episode = sample_episode()
    text = "\n".join(Parts(episode_to_html(episode)).texts)
    said = [m.content for m in episode.prompt] + [t.text for t in episode.turns]
    said += [s.observation.text for s in episode.steps] + [episode.id, episode.task.id, episode.model, "step-1"]
    assert [line for line in said if line not in text] == []


def test_nothing_is_loaded_and_only_our_hashes_may_run():
    parts = Parts(episode_to_html(sample_episode()))
    assert not [a for _, a in parts.elements if a.keys() & {"src", "href", "style", "onclick", "onload"}]
    policy = next(a["content"] for t, a in parts.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(parts.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("text", ["<script>x</script>", '"><b>', "a & b", "%%body%%", "\x1b[31m", "\ud800", "</pre>"])
def test_any_text_is_only_text(text):
    step = dataclasses.replace(sample_episode().steps[0], observation=Observation(text))
    turn = dataclasses.replace(sample_episode().turns[0], steps=(step,), text=text)
    page = episode_to_html(sample_episode(turns=(turn,), error=text))
    page.encode("utf-8")
    plain = Parts(episode_to_html(sample_episode(turns=(sample_episode().turns[0],), error="x")))
    assert {t for t, _ in Parts(page).elements} <= {t for t, _ in plain.elements}
    assert "\x1b" not in page


def test_tokens_are_shown_apart_and_shaded():
    episode = played_in_bytes()
    elements = Parts(episode_to_html(episode, ByteTokenizer())).elements
    classes = [a["class"] for t, a in elements if t == "span" and "title" in a]
    assert classes.count("p s3") == sum(len(t.completion_ids) - 1 for t in episode.turns)
    assert classes.count("p s9") == len(episode.turns)
    assert classes.count("e") == sum(len(t.environment_ids) for t in episode.turns)
    assert "tokens" not in re.findall(r'class="([a-z]+)"', episode_to_html(episode))


def test_a_scripted_episode_brings_its_tokenizer_and_another_does_not():
    assert isinstance(find_tokenizer(played_in_bytes()), ByteTokenizer)
    assert find_tokenizer(sample_episode()) is None
    assert find_tokenizer(dataclasses.replace(played_in_bytes(), engine="vllm")) is None


def test_a_tokenizer_that_reads_other_texts_is_refused(smollm2_dir):
    with pytest.raises(ConfigError, match="is not the tokenizer of episode"):
        find_tokenizer(played_in_bytes(), str(smollm2_dir))


def test_the_tokenizer_that_sampled_an_episode_is_taken(smollm2_dir):
    own = HFTokenizer(smollm2_dir)
    assert isinstance(find_tokenizer(played_with(own), str(smollm2_dir)), HFTokenizer)


def test_a_name_without_a_tokenizer_is_a_clear_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no tokenizer can be loaded from"):
        find_tokenizer(played_in_bytes(), str(tmp_path))
