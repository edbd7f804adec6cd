"""Draw a part of a picture anew: `python edit_photo.py [PICTURE PROMPT]`, by default one that is drawn."""

import sys

from PIL import Image, ImageDraw

import unclip

model = unclip.load()
if len(sys.argv) > 1:
    path, prompt = sys.argv[1], sys.argv[2]
else:
    path, prompt = "apple.png", "a red apple with a green leaf"
    model.generate("a red apple", seed=1)[0].save(path)

with Image.open(path) as picture:
    width, height = picture.size
mask = Image.new("L", (width, height), 0)  # white is drawn anew, black stays bit for bit
ImageDraw.Draw(mask).rectangle((width // 2, 0, width, height // 2), fill=255)

for edited in model.edit(path, mask, prompt, n=2, seed=3, feather=4):
    edited.save(f"edited-{edited.index}.png")
    print(f"edited-{edited.index}.png: {prompt}")
