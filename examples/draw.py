"""Draw four pictures of one prompt, and put them on a sheet."""

from PIL import Image

import unclip

model = unclip.load()  # the bundle that ships; or the name or folder of another
pictures = model.generate("a red apple", n=4, size=256, seed=1)

sheet = Image.new("RGB", (4 * 256, 256), "white")
for picture in pictures:
    picture.save(f"apple-{picture.index}.png")  # the file says prompt, seed and settings
    sheet.paste(picture.image, (256 * picture.index, 0))
sheet.save("sheet.png")
print("sheet.png:", ", ".join(f"{picture.score:.2f}" for picture in pictures), "by CLIP")
