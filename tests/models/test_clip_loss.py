"""The contrastive losses: equal to their definitions, alone and shared between processes.

Run as a script, this file is one of the two processes of the distributed test.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unclip
from unclip.errors import InputError
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.clip_loss import (
    clip_loss,
    in_parts,
    same_concept,
    sigmoid_loss,
    supervised_contrastive_loss,
    text_keys,
)

PAIRS, WIDTH, PROCESSES = 6, 8, 2
CONCEPTS = torch.tensor([0, 1, 0, 2, 0, 3])
LOSSES = ("clip", "clip with positives", "sigmoid", "sigmoid with positives", "supervised")


def features(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    image, text = 3 * torch.randn(2, PAIRS, WIDTH, dtype=torch.float64)
    return image, text


SCALE = torch.tensor(14.0, dtype=torch.float64)
BIAS = torch.tensor(-10.0, dtype=torch.float64)


def cosines(a: Tensor, b: Tensor) -> list[list[float]]:
    return [[float(x @ y / (x.norm() * y.norm())) for y in b] for x in a]


def log_softmax(row: list[float], j: int) -> float:
    return row[j] - math.log(sum(math.exp(x) for x in row))


def test_the_clip_loss_is_the_mean_of_two_cross_entropies() -> None:
    image, text = features()
    logits = [[14.0 * c for c in row] for row in cosines(image, text)]
    columns = [list(column) for column in zip(*logits, strict=True)]
    expected = -sum(log_softmax(logits[i], i) + log_softmax(columns[i], i) for i in range(PAIRS)) / PAIRS / 2
    assert clip_loss(image, text, SCALE).item() == pytest.approx(expected, abs=1e-12)


def test_soft_positives_are_targets_uniform_over_the_same_concept() -> None:
    image, text = features()
    logits = [[14.0 * c for c in row] for row in cosines(image, text)]
    columns = [list(column) for column in zip(*logits, strict=True)]
    expected = 0.0
    for i in range(PAIRS):
        same = [j for j in range(PAIRS) if CONCEPTS[j] == CONCEPTS[i]]
        expected -= sum(log_softmax(logits[i], j) + log_softmax(columns[i], j) for j in same) / len(same)
    loss = clip_loss(image, text, SCALE, positives=same_concept(CONCEPTS))
    assert loss.item() == pytest.approx(expected / PAIRS / 2, abs=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), pairs=st.integers(1, 9), scale=st.floats(0.1, 100))
def test_with_one_positive_each_the_soft_loss_is_the_plain_one(seed: int, pairs: int, scale: float) -> None:
    torch.manual_seed(seed)
    image, text = torch.randn(2, pairs, WIDTH, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor(scale)
    plain = clip_loss(image, text, factor)
    soft = clip_loss(image, text, factor, positives=torch.eye(pairs, dtype=torch.bool))
    torch.testing.assert_close(soft, plain, rtol=0, atol=1e-7)
    for a, b in zip(
        torch.autograd.grad(soft, (image, text)), torch.autograd.grad(plain, (image, text)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_a_key_is_that_of_a_text_whatever_its_padding() -> None:
    ids = torch.tensor([[5, 7, 2, 0], [7, 5, 2, 0], [5, 7, 2, 9], [5, 7, 7, 2], [5, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    keys = text_keys(ids, mask)
    assert keys[0] == keys[2]
    assert len(set(keys.tolist())) == 4
    assert torch.equal(text_keys(ids[:, :3], mask[:, :3])[:3], keys[:3])
    longer = text_keys(F.pad(ids, (0, 3)), F.pad(mask, (0, 3)))
    assert torch.equal(longer, keys)


@pytest.mark.parametrize("positives", [None, same_concept(CONCEPTS)])
def test_the_sigmoid_loss_decides_every_pair_by_itself(positives: Tensor | None) -> None:
    image, text = features()
    expected = 0.0
    for i, row in enumerate(cosines(image, text)):
        for j, cosine in enumerate(row):
            sign = 1 if (i == j if positives is None else positives[i, j]) else -1
            expected += math.log1p(math.exp(-sign * (10 * cosine - 10)))
    scale = torch.tensor(10.0, dtype=torch.float64)
    loss = sigmoid_loss(image, text, scale, BIAS, positives=positives)
    assert loss.item() == pytest.approx(expected / PAIRS, abs=1e-12)


def test_the_supervised_loss_is_equation_2_of_khosla() -> None:
    image, _ = features()
    similarity = cosines(image, image)
    anchors = []
    for i in range(PAIRS):
        same = [j for j in range(PAIRS) if CONCEPTS[j] == CONCEPTS[i] and j != i]
        total = sum(math.exp(14 * similarity[i][a]) for a in range(PAIRS) if a != i)
        if same:
            anchors.append(-sum(14 * similarity[i][p] - math.log(total) for p in same) / len(same))
    assert len(anchors) == 3  # concept 0 three times, the others alone
    loss = supervised_contrastive_loss(image, CONCEPTS, SCALE)
    assert loss.item() == pytest.approx(sum(anchors) / 3, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 4])
def test_the_supervised_loss_without_any_positive_is_zero_with_a_gradient_of_zero(rows: int) -> None:
    x = torch.randn(rows, WIDTH, requires_grad=True)
    loss = supervised_contrastive_loss(x, torch.arange(rows), 14.0)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_the_losses_do_not_see_the_length_of_features() -> None:
    image, text = features()
    torch.testing.assert_close(clip_loss(5 * image, 0.1 * text, SCALE), clip_loss(image, text, SCALE))
    torch.testing.assert_close(
        sigmoid_loss(5 * image, 0.1 * text, SCALE, BIAS), sigmoid_loss(image, text, SCALE, BIAS)
    )


def test_autocast_does_not_touch_the_logits() -> None:
    image, text = (x.float() for x in features())
    scale = torch.tensor(100.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = clip_loss(image, text, scale), supervised_contrastive_loss(image, CONCEPTS, scale)
    outside = clip_loss(image, text, scale), supervised_contrastive_loss(image, CONCEPTS, scale)
    assert inside[0].dtype == torch.float32
    assert torch.equal(torch.stack(inside), torch.stack(outside))


def test_shapes_that_do_not_fit_are_refused() -> None:
    image, text = features()
    with pytest.raises(InputError, match=r"both must be \(B, E\)"):
        clip_loss(image, text[:3], SCALE)
    with pytest.raises(InputError, match=r"positives \(6, 5\) torch.bool: they must be \(6, 6\)"):
        clip_loss(image, text, SCALE, positives=torch.ones(6, 5, dtype=torch.bool))
    with pytest.raises(InputError, match=r"positives \(6, 6\) torch.float32"):
        sigmoid_loss(image, text, SCALE, BIAS, positives=torch.eye(6))
    with pytest.raises(InputError, match=r"must be \(N, E\) and \(N,\)"):
        supervised_contrastive_loss(image, CONCEPTS[:3], SCALE)


# --- large batches in little memory


@pytest.mark.parametrize(("rows", "part"), [(12, 4), (13, 4), (3, 8)])
def test_a_batch_in_parts_has_the_loss_and_gradients_of_the_whole(rows: int, part: int) -> None:
    torch.manual_seed(0)
    image = VisionTransformerConfig(image_size=8, patch=4, width=8, layers=1, heads=2)
    text = TextTransformerConfig(20, context=5, width=8, layers=1, heads=2)
    model = CLIP(CLIPConfig(embedding=6, image=image, text=text, end_token=2))
    images, ids = torch.randn(rows, 3, 8, 8), torch.randint(3, 20, (rows, 5))
    ids[:, -1] = 2
    calls: list[int] = []

    def encode(ids: Tensor) -> Tensor:
        calls.append(len(ids))
        return model.encode_text(ids).embedding

    whole = clip_loss(model.encode_image(images), encode(ids), model.scale)
    whole.backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    calls.clear()
    loss = clip_loss(in_parts(model.encode_image, part, images), in_parts(encode, part, ids), model.scale)
    assert max(calls) <= part
    once = len(calls)
    assert once == -(-rows // part)
    loss.backward()
    assert max(calls) <= part
    assert len(calls) == 2 * once  # nothing was kept of the first time
    torch.testing.assert_close(loss, whole, rtol=0, atol=1e-5)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], rtol=0, atol=1e-5, msg=name)


def test_parts_drop_the_same_patches_when_their_gradients_are_taken() -> None:
    torch.manual_seed(0)
    weight = torch.ones(4, requires_grad=True)
    kept: list[Tensor] = []

    def encode(x: Tensor) -> Tensor:
        kept.append(torch.rand(4) < 0.5)
        return x * weight * kept[-1]

    in_parts(encode, 2, torch.ones(4, 4)).sum().backward()
    first, second = kept[:2], kept[2:]
    assert sorted(map(str, first)) == sorted(map(str, second))
    torch.testing.assert_close(weight.grad, 2.0 * (first[0].float() + first[1].float()))


# --- two processes


class Towers(nn.Module):
    """Two linear encoders and a scale: the least model that the losses can train."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.image = nn.Linear(WIDTH, 5).double()
        self.text = nn.Linear(WIDTH, 5).double()
        self.scale = nn.Parameter(SCALE.clone())
        self.bias = nn.Parameter(BIAS.clone())

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # the products with 0 give every parameter a gradient in every loss, which DDP expects
        silent = 0 * (self.bias + self.scale)
        return self.image(image), self.text(text) + silent, self.scale + 0, self.bias + 0


def loss_of(
    name: str,
    outputs: tuple[Tensor, Tensor, Tensor, Tensor],
    concepts: Tensor,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    image, text, scale, bias = outputs
    positives = same_concept(concepts, group) if name.endswith("positives") else None
    if name.startswith("clip"):
        return clip_loss(image, text, scale, positives=positives, group=group)
    if name.startswith("sigmoid"):
        return sigmoid_loss(image, text, scale, bias, positives=positives, group=group)
    both, labels = torch.cat([image, text]), torch.cat([concepts, concepts])
    return supervised_contrastive_loss(both, labels, scale, group=group)


def one_of_two(rank: int, folder: Path) -> None:
    """Each process takes its half of the batch through DDP and saves losses and gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    try:
        image, text = features()
        part = slice(rank * PAIRS // PROCESSES, (rank + 1) * PAIRS // PROCESSES)
        results = {}
        for name in LOSSES:
            model = nn.parallel.DistributedDataParallel(Towers())
            loss = loss_of(name, model(image[part], text[part]), CONCEPTS[part], dist.group.WORLD)
            loss.backward()
            total = loss.detach().clone()
            dist.all_reduce(total)
            gradients = {key: parameter.grad for key, parameter in model.module.named_parameters()}
            results[name] = {"loss": total / PROCESSES, **gradients}
        torch.save(results, folder / f"{rank}.pt")
        dist.barrier()  # neither closes its connections while the other still needs them
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("processes")
    source = str(Path(unclip.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, __file__, str(rank), str(folder)] for rank in range(PROCESSES)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(c, env=environment, stderr=pipe, text=True) for c in commands]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * PROCESSES, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_learn_what_one_learns_from_the_whole_batch(
    name: str, shared: list[dict[str, dict[str, Tensor]]]
) -> None:
    model = Towers()
    image, text = features()
    loss = loss_of(name, model(image, text), CONCEPTS)
    loss.backward()
    expected = {"loss": loss.detach(), **{key: value.grad for key, value in model.named_parameters()}}
    for results in shared:
        for key, value in expected.items():
            torch.testing.assert_close(results[name][key], value, rtol=0, atol=1e-10, msg=f"{name}: {key}")


def test_features_gathered_without_gradients_would_be_noticed() -> None:
    """The test above has teeth: with the other half's features as constants the gradient is another one."""
    image, text = features()
    model = Towers()
    a, b, scale, _ = model(image, text)
    clip_loss(a, b, scale).backward()
    whole = model.image.weight.grad.clone()
    model.zero_grad()
    total = 0
    for part in (slice(0, 3), slice(3, 6)):
        a, b, scale, _ = model(image, text)
        constant_a, constant_b = a.detach().clone(), b.detach().clone()
        constant_a[part], constant_b[part] = a[part], b[part]
        own = F.normalize(a, dim=1)[part] @ F.normalize(constant_b, dim=1).T * scale
        other = F.normalize(b, dim=1)[part] @ F.normalize(constant_a, dim=1).T * scale
        targets = torch.arange(6)[part]
        total = total + (F.cross_entropy(own, targets) + F.cross_entropy(other, targets)) / 4
    total.backward()
    assert (model.image.weight.grad - whole).abs().max() > 1e-6


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # Gloo's threads outlive their group; one that is late aborts an interpreter that shuts down
