"""The promise that every rule has a row in one table, with a threshold and a switch that are checked."""

from __future__ import annotations

import pytest

from unclip.data.prepare.rules import BY_REASON, STANDING, TABLE, Name, Needs, Rules, chosen, listing
from unclip.errors import InputError


def test_every_rule_has_one_row_and_every_reason_one_rule() -> None:
    assert [rule.name for rule in TABLE] == list(Name)
    assert len(BY_REASON) == sum(len(rule.reasons) for rule in TABLE)
    for rule in TABLE:
        assert rule.threshold is None or rule.least <= rule.threshold <= rule.most
        assert ("{}" in rule.says) == (rule.threshold is not None)


def test_a_rule_is_on_when_what_it_needs_is_at_hand() -> None:
    assert Name.SEMANTIC not in chosen()
    assert Name.SEMANTIC in chosen(at_hand=[Needs.CLIP])
    assert Name.PERCEPTUAL in chosen()
    assert not {Name.PERCEPTUAL, Name.SHORT} & {*STANDING.on}


def test_thresholds_and_switches_change_rules() -> None:
    rules = chosen(["short=7", "aspect=3"], ["perceptual"], languages=["en", "de"])
    assert rules[Name.SHORT] == 7
    assert rules.limits.aspect == 3
    assert Name.PERCEPTUAL not in rules
    assert not rules.limits.perceptual
    assert rules.languages == ("en", "de")


@pytest.mark.parametrize(
    ("changed", "off", "message"),
    [
        (["shrt=7"], [], "unknown rule 'shrt': choose language, mojibake"),
        (["short=many"], [], "short=many is not allowed: give a number from 1 to inf"),
        (["aspect=0.5"], [], "from 1 to 32"),
        (["boilerplate=3"], [], "has no threshold"),
        (["semantic=0.9"], [], "name a bundle with --clip"),
        ([], ["decoding"], "cannot be switched off"),
        ([], ["blur"], "unknown rule 'blur'"),
    ],
)
def test_what_a_rule_cannot_be_is_refused(changed: list[str], off: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(changed, off)


def test_languages_are_kept_by_a_rule_that_is_on() -> None:
    with pytest.raises(InputError, match="leave it on"):
        chosen(off=["language"], languages=["en"])


def test_the_same_rules_have_the_same_text_whatever_their_order() -> None:
    one = Rules({Name.SHORT: 3, Name.ASPECT: 2})
    assert repr(one) == repr(Rules({Name.ASPECT: 2, Name.SHORT: 3}))
    assert repr(one) != repr(Rules({Name.ASPECT: 2, Name.SHORT: 4}))


def test_the_table_is_printed_with_thresholds_and_switches() -> None:
    lines = listing(chosen(["short=7"], ["perceptual"]))
    assert any(line.startswith("short") and "fewer than 7 letters" in line for line in lines)
    assert any(line.startswith("perceptual") and line.endswith("(off)") for line in lines)
