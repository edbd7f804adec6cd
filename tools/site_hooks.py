"""Hooks of `make site` (mkdocs.yml): pages of the repository that lie outside of docs/, and links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLES = "src/unclip/bundles"
# Pages of the site by their files in the repository.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    f"{BUNDLES}/pictograms/README.md": "model-card.md",
    "README.md": "index.md",
}
LINK = re.compile(r"(?<!\!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```[a-z]+) .+$", re.MULTILINE)  # "```sh hours": the second word is for tests


def on_files(files: Files, config: Any) -> Files:
    """Add the pages whose files lie elsewhere."""
    for source, page in PAGES.items():
        if page != "index.md":  # the site begins with a page of its own
            text = (REPOSITORY / source).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository as links to pages, or as names of files; plain fences."""
    generated = {site: source for source, site in PAGES.items()}
    own = page.file.src_uri
    place = posixpath.dirname(generated[own] if own in generated and own != "index.md" else f"docs/{own}")

    def linked(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        whole = posixpath.normpath(posixpath.join(place, target))
        if whole in PAGES:
            reached = PAGES[whole]
        elif whole.startswith("docs/"):
            reached = whole.removeprefix("docs/")
        else:
            return f"`{whole}`" if text.strip("`") in (target, whole) else f"{text} (`{whole}`)"
        return f"[{text}]({posixpath.relpath(reached, posixpath.dirname(own) or '.')}{anchor})"

    return FENCE.sub(r"\1", LINK.sub(linked, markdown))
