"""Draw a picture, and write how it looks after every step."""

import unclip

model = unclip.load()
for event in model.stream("a rocket", seed=2):
    print(f"{event.stage} {event.step} of {event.total}, {1000 * event.seconds:.0f} ms")
    for number, image in enumerate(event.preview()):  # estimates of the pictures; none before the decoder
        image.save(f"{event.stage}-{event.step:02}-{number}.png")
    for picture in event.pictures:
        picture.save("rocket.png")
