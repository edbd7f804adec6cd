"""Promises of policies: presets and own files, refusals that name the category alone, unknown languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclip.errors import InputError, PolicyError
from unclip.policy import Policy
from unclip.policy.guard import in_force
from unclip.policy.policy import presets


def test_the_presets_are_files_with_the_names_that_are_documented() -> None:
    assert presets() == ["dalle2", "midjourney", "none"]
    assert Policy.named("none").refuses_nothing
    assert "faces" in Policy.named("dalle2").pictures
    assert "faces" not in Policy.named("midjourney").pictures
    assert Policy.named("midjourney").refusal("Angela Merkel") is None


def test_a_refusal_names_the_category_and_never_the_list() -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.named("dalle2").check_prompt("a horny nymphomaniac")
    message = str(caught.value)
    assert "sexual content" in message
    assert "dalle2" in message
    assert "horny" not in message
    assert "nympho" not in message
    assert caught.value.exit_code == 3


def test_ones_own_policy_adds_words_and_contexts(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        'description = "ours"\nprompts = ["gore"]\nallowed = ["corpse of the deal"]\n'
        'refused = {"our rivals" = ["acme", "acme rocket"]}\n'
    )
    policy = Policy.named(file)
    assert policy.name == "ours"
    assert policy.refusal("an Acme anvil") == "our rivals"
    assert policy.refusal("a corpse") == "gore and violence against people"
    assert policy.refusal("the corpse of the deal") is None
    assert policy.refusal("a naked woman") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prompts = ["sexx"]', "sexx"),
        ('pictures = ["smell"]', "smell"),
        ("colour = 3", "colour"),
        ('allowed = ["("]', "cannot be read"),
        ("prompts = [", "TOML"),
        ('name = "x"', "name"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        Policy.named(file)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="dalle2, midjourney, none"):
        Policy.named("dalle3")


def test_a_prompt_in_a_language_without_rules_is_told_that_none_applied() -> None:
    policy = Policy.named("dalle2")
    assert policy.refusal("красное яблоко") is None
    note = policy.unruled("красное яблоко")
    assert note is not None
    assert "none of them applied" in note
    assert policy.unruled("a red apple") is None
    assert policy.unruled("빨간 사과") is None
    assert Policy.named("none").unruled("красное яблоко") is None


def test_a_bundles_card_may_ask_for_more_where_nothing_was_chosen() -> None:
    everything, dalle2 = Policy.named("none"), Policy.named("dalle2")
    assert in_force(None, everything, "midjourney") == Policy.named("midjourney")
    assert in_force(everything, everything, "midjourney") == everything
    both = in_force(None, Policy("ours", prompts=("persons",), name="ours"), "midjourney")
    assert set(both.prompts) == {"persons", "minors", "sexual", "gore", "hate"}
    assert in_force(None, dalle2, "") == dalle2
