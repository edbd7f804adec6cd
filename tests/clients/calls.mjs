// Calls of the npm package `openai` against a server: node calls.mjs ADDRESS IMAGE MASK
import assert from "node:assert";
import { createReadStream, readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const [address, image, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none" });
const common = { model: "tiny", prompt: "a red apple" };
const isPng = (text) => Buffer.from(text, "base64").subarray(1, 4).toString() === "PNG";

const drawn = await client.images.generate({ ...common, size: "64x64", n: 2, seed: 3 });
assert.equal(drawn.data[0].seed, 3);
assert(isPng(drawn.data[0].b64_json));

for (const file of [createReadStream(image), await toFile(readFileSync(image), "a.png", { type: "image/png" })]) {
  const edited = await client.images.edit({ ...common, image: file, mask: createReadStream(mask), steps: 2 });
  assert(isPng(edited.data[0].b64_json));
}
const varied = await client.images.createVariation({ image: createReadStream(image), response_format: "b64_json", size: "64x64" });
assert(isPng(varied.data[0].b64_json));

const kinds = [];
for await (const event of await client.images.generate({ ...common, size: "64x64", stream: true, partial_images: 1, steps: 6 })) {
  kinds.push(event.type);
}
assert.deepEqual(kinds, ["image_generation.partial_image", "image_generation.completed"]);
await assert.rejects(client.images.generate({ ...common, size: "63x63" }), (error) => error.param === "size" && error.status === 400);
await assert.rejects(client.models.retrieve("nope"), (error) => error.code === "model_not_found");
await assert.rejects(
  client.images.generate({ ...common, prompt: "eine nackte Frau", size: "64x64" }),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "content_policy_violation" && error.param === "prompt",
);
console.log("openai (npm): all calls");
