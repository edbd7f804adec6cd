"""Draw and vary by a server, with OpenAI's client. `unclip serve` has to run."""

import base64
import os

from openai import OpenAI

address = os.environ.get("UNCLIP_SERVER", "http://127.0.0.1:8000")
client = OpenAI(base_url=f"{address}/v1", api_key=os.environ.get("UNCLIP_KEY", "none"))


def save(answer, name):
    for number, item in enumerate(answer.data):
        with open(f"{name}-{number}.png", "wb") as file:
            file.write(base64.b64decode(item.b64_json))
        print(f"{name}-{number}.png")


# `extra_body` takes whatever else `unclip generate` does
save(
    client.images.generate(
        model="pictograms", prompt="a red apple", n=2, size="256x256", extra_body={"seed": 1}
    ),
    "drawn",
)
with open("drawn-0.png", "rb") as image:
    save(
        client.images.create_variation(model="pictograms", image=image, response_format="b64_json"), "varied"
    )
