"""Index a folder of pictures, and find some by words, by a picture, and by both."""

from pathlib import Path

import unclip

folder = Path("pictures")
folder.mkdir(exist_ok=True)
model = unclip.load()
for prompt in ("a red apple", "a green apple", "a cat", "a rocket", "a heart", "a house"):
    model.generate(prompt, seed=1)[0].save(folder / f"{prompt.replace(' ', '-')}.png")

unclip.search.update(folder)  # reads what is new, and nothing twice
with unclip.search.open(folder) as index:
    for query in ("a cat", "로켓", '"a red apple" - "red" + "green"', str(folder / "a-heart.png")):
        found = ", ".join(f"{Path(hit.path).name} {hit.cosine:.2f}" for hit in index.query(query, top=3))
        print(f"{query}: {found}")
