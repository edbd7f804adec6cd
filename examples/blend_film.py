"""A film from one picture to another, there and back, by the two latents of each."""

import unclip

model = unclip.load()
for name in ("apple", "heart"):
    model.generate(f"a red {name}", seed=1)[0].save(f"{name}.png")

frames = [picture.image for picture in model.blend("apple.png", "heart.png", frames=12, seed=1)]
film = frames + frames[-2:0:-1]
film[0].save("film.webp", save_all=True, append_images=film[1:], duration=80, loop=0)
print(f"film.webp: {len(film)} frames")
