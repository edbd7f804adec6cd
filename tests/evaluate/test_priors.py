"""Promises of judging several priors: each has its figures and its verdict, and its diversity."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclip.evaluate import ablation, pictures
from unclip.evaluate.evaluation import Evaluation, Section, Settings


@pytest.fixture(scope="module")
def evaluation(two_priors_bundle: Path, shapes: Path) -> Evaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "VARIETY", (3, 3))
        patch.setattr(ablation, "SCALES", (1.0,))
        found = Evaluation(
            Settings(
                bundle=str(two_priors_bundle),
                data=shapes,
                judge=str(two_priors_bundle),
                only=(Section.PRIOR, Section.ABLATION),
                captions=12,
                languages=("en",),
                precision="float32",
                device="cpu",
            )
        )
        for _ in found.run():
            pass
    return found


def test_each_prior_has_its_figures_beside_the_baselines(evaluation: Evaluation) -> None:
    figures = [figure for figure in evaluation.findings.figures if figure.section == "prior"]
    expected = {"text embedding", "mean embedding", "another picture"}
    for prior in ("prior", "AR prior"):
        expected |= {f"{prior}, one plain sample", f"{prior}, as it draws"}
    for split in {figure.split for figure in figures}:
        of_split = [figure for figure in figures if figure.split == split]
        for name in {figure.name for figure in of_split}:
            assert {figure.variant for figure in of_split if figure.name == name} == expected
    values = {figure.variant: figure.estimate.value for figure in figures if "cosine" in figure.name}
    assert values["prior, as it draws"] != values["AR prior, as it draws"]


def test_each_prior_has_its_verdict(evaluation: Evaluation) -> None:
    verdicts = evaluation.findings.verdicts
    for subject in ("The prior has", "The AR prior has"):
        assert sum(verdict.startswith(subject) for verdict in verdicts) == 1


def test_what_the_decoder_is_fed_is_compared_by_recall_and_by_diversity(evaluation: Evaluation) -> None:
    figures = [figure for figure in evaluation.findings.figures if figure.section == "ablation"]
    arms = {ablation.TEXT, ablation.PRIOR, ablation.AR}
    recall = {figure.variant for figure in figures if figure.name == pictures.RECALL}
    assert recall >= {*arms, ablation.TRUE}
    variety = {figure.variant: figure for figure in figures if figure.name == pictures.VARIETY_NAME}
    assert set(variety) >= arms
    for arm in arms:
        assert variety[arm].estimate.count == 3
        assert variety[arm].estimate.value > 0
